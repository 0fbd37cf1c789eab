"""The local stack: the whole pipeline, and stand-ins for everything around it, as processes on one machine.

`stack` starts, stops and looks at it (`up`, `down`, `load`, `status`, `running`); `options` is what one asks for and
`environment` what a client needs. Components are values (`component`, `plan`), found again by their record (`record`),
so they outlive the command that started them. Nothing is imported here: `provision` needs Google's clients only.
"""

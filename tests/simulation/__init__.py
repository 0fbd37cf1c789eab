"""The whole pipeline in one process, in simulated time, by a seed.

=================== =======================================================================================
:mod:`.choices`     what a seed decides; a schedule is the list of its decisions, and can be made shorter
:mod:`.scheduler`   processes of several machines, of which one goes on at a time, until its next call outside
:mod:`.store`       the state's documents
=================== =======================================================================================
"""

"""The run report: one self-contained page for whoever is on call and for whoever asks how the business is doing."""

"""Settings of all tests."""

from hypothesis import settings

# No deadlines: the machine's two cores are shared, and a slow example is not a wrong one.
settings.register_profile("credix", deadline=None)
settings.load_profile("credix")

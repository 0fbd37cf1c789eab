"""What the histories had in them, for who asks whether they can find anything."""

from collections import Counter

COUNTS: Counter[str] = Counter()

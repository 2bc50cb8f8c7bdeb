"""The three words in which a run is forecast, before the charge and in every report."""

SOMETHING = "something can be learned"
LITTLE = "little can be learned"
NOTHING = "nothing can be learned"
WORDS = (SOMETHING, LITTLE, NOTHING)

"""The values of a label array: what every reader gives and every loss, metric and picture expects."""

BACKGROUND, LUNG, IGNORE = 0, 1, 255  # IGNORE: nobody knows, and neither loss nor metric looks there
RIGHT, LEFT = 1, 2  # of the patient, in arrays that tell the sides apart

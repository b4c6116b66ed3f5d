"""The values of label arrays, which every reader gives and every loss, metric and picture expects, and of padding in grey ones."""

BACKGROUND, LUNG, IGNORE = 0, 1, 255  # IGNORE: nobody knows, and neither loss nor metric looks there
RIGHT, LEFT = 1, 2  # of the patient, in arrays that tell the sides apart
PADDING_HU = -1024.0  # 12-bit CT holds nothing lower: what is lower marks voxels outside the scanner's field of view

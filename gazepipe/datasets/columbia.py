"""The published folds of Columbia Gaze, apart from `splits` since the plan of the DAG reads them without numpy."""

# The prior work's five folds, which numbered the subjects from 0: folder 0001 is 0.
COLUMBIA_FOLDS = (
    (7, 11, 53, 18, 17, 29, 30, 33, 22, 46, 32),
    (51, 1, 45, 20, 25, 2, 14, 37, 10, 27, 6),
    (55, 9, 8, 49, 16, 4, 28, 52, 19, 39, 23),
    (50, 47, 5, 54, 34, 40, 36, 13, 38, 42, 41),
    (21, 0, 12, 15, 48, 24, 44, 35, 43, 26, 31, 3),
)

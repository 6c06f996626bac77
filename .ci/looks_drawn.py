"""Fails if a screenshot of the report is blank or shows hardly any colour: a crude look, but a look."""

import sys

import matplotlib.image
import numpy

picture = matplotlib.image.imread(sys.argv[1])[:, :, :3]
ink = (numpy.abs(picture - picture[0, 0]).max(axis=2) > 0.1).mean()
coloured = (picture.max(axis=2) - picture.min(axis=2) > 0.2).mean()
print(f"{sys.argv[1].rsplit('/', 1)[-1]}: {picture.shape[1]} x {picture.shape[0]}, {ink:.1%} ink, {coloured:.2%} in colour")
if ink < 0.02 or coloured < 0.002:
    sys.exit("the report looks empty")

"""Ladders: the observed distance and every bound above it."""

from stability.ladders.build import ladder as ladder
from stability.ladders.closed import closed_forms as closed_forms
from stability.ladders.result import Ladder as Ladder

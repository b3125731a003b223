"""The record of a run for an auditor: what was done, by what criterion it is judged, and the digests by which all of it is checked."""

"""A run's result in other programs' formats, one format a file: diffusers folder, LoRA, differences,
single file, text-space eraser,
repository of the hub.

What a format is written from is in `change.py`; what each says of its origin in `provenance.py` and `model_card.py`.
"""

from expunge.runs.export.folder import load, merge
from expunge.runs.export.hub import push
from expunge.runs.export.lora import write_difference, write_lora
from expunge.runs.export.single_file import write_single_file
from expunge.runs.export.text_space import write_text_eraser

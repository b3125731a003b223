"""How the cost of UCE grows with the number of concepts, on the architecture of Stable Diffusion 1.5 with random weights.

`python benchmarks/growth.py --concepts 1 10 100 1000` adds a line for each number to benchmarks/growth.jsonl. Each is a process of its own,
for its peak of memory. Measured is `expunge.unlearn`: names, prompts through the text encoder, the solve, all key and value matrices, and
the file; not making the random network, nor the fingerprint that files on a disk have only once.
"""

import argparse
import itertools
import json
import resource
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILE = Path(__file__).with_suffix(".jsonl")


def names(count: int) -> list[str]:
    """Names of people that no vocabulary has."""
    letters = itertools.product(string.ascii_lowercase, repeat=2)
    return [f"Person{a}{b} Smith" for a, b in letters][:count] + [f"Writer{i:04} Jones" for i in range(count - 676)]


def measured(count: int, dtype: str) -> dict:
    """A line, measured in this process."""
    from architectures import stable_diffusion_1_5
    from speed import machine

    import expunge
    from expunge.concepts.concept import Concept
    from expunge.concepts.vocabulary import Vocabulary
    from expunge.methods.uce import UCE
    from expunge.models.precision import DTYPES
    from expunge.models.stable_diffusion import StableDiffusion

    model = StableDiffusion(stable_diffusion_1_5(dtype=DTYPES[dtype]))
    assert model.fingerprint  # computed before the clock starts
    began, processor = time.perf_counter(), time.process_time()
    vocabulary = Vocabulary.general()
    concepts = [Concept.find(name, vocabulary, kind="identity") for name in names(count)]
    with tempfile.TemporaryDirectory() as folder:
        expunge.unlearn(model, concepts, UCE(prompts="bare"), out=Path(folder) / "run", progress=expunge.progress.Silent())
    cost = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - processor}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"what": f"UCE, {dtype}", "concepts": count, **cost, "peak_bytes": peak, "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--here", action="store_true", help="measure the first number in this process and print the line")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measured(given.concepts[0], given.dtype)))
        return
    lines = [json.loads(text) for text in given.file.read_text().splitlines()] if given.file.exists() else []
    for count in given.concepts:
        if any((line["what"], line["concepts"]) == (f"UCE, {given.dtype}", count) for line in lines):
            continue
        asked = [sys.executable, "-W", "ignore", __file__, "--here", "--dtype", given.dtype, "--concepts", str(count)]
        line = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        with given.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""The command line of an audit."""

import shlex
from typing import TYPE_CHECKING

from expunge.audits.results import Audit
from expunge.canvas.control import SHIPPED
from expunge.names import NO_CONTROL

if TYPE_CHECKING:
    from expunge.audits.budget import Budget


def command_of(audit: Audit, budget: "Budget") -> str:
    """The command line that makes the same audit again."""
    flags = list(budget.flags)
    if not budget.is_selected_by_flags:
        flags = ["--budget", str(audit.folder / "budget.toml"), *(["--allow-code"] if budget.names_outside_code else [])]
    words = ["expunge", "audit", str(audit.sources.get("unlearned", audit.card["id"])), *flags, "--seed", str(audit.seed)]
    control = audit.sources.get("retrained")
    words += [] if control == SHIPPED else ["--control", str(control or NO_CONTROL)]
    words += ["--judge", audit.judges[0]] if len(audit.judges) == 1 else []
    words += ["--model", audit.model] if audit.model and audit.model != audit.card["model"]["name"] else []
    run = audit.sources.get("unlearned")
    words += ["--out", str(audit.folder)] if run and audit.folder != run / budget.folder_name(audit.seed) else []
    return shlex.join(words)

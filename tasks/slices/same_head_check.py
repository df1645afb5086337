"""What comes of two patients with one head: the run stops, or says so."""

from collections import defaultdict
from typing import Any, Literal

from tasks.slices.same_head import Pattern, pattern, same_heads
from tasks.stage.errors import InputError
from tasks.volumes.native_session import NativeSession
from tasks.volumes.sessions import Session

SHOWN = 3  # pairs on the terminal; stats.json has all


class Heads:
    """The patterns of all volumes that were cut, and whose they are."""

    def __init__(self) -> None:
        """Begin without any."""
        self.patterns: dict[int, list[Pattern]] = defaultdict(list)  # by channel
        self.owners: dict[int, list[str]] = defaultdict(list)
        self.known: dict[str, bool] = {}

    def add(self, session: Session, native: NativeSession) -> None:
        """Take the patterns of a session's volumes; pictures of one slice have none."""
        for channel, volume in enumerate(native.channels):
            if (found := pattern(volume, native.brain)) is not None:
                self.patterns[channel].append(found)
                self.owners[channel].append(session.subject)
        self.known[session.subject] = bool(session.rows[0].get("patient_known", True))

    def judge(self, mode: Literal["stop", "warn", "off"]) -> dict[str, Any]:
        """Compare the volumes of each modality; return what `stats.json` says of it.

        Patients who are both unknown do not stop the run: that their split may leak is said anyway.

        Raises:
            StageError: naming the (pseudonymous) patients, where the mode is `stop`.
        """
        pairs: dict[tuple[str, str], float] = {}
        for channel, patterns in self.patterns.items():
            owners = self.owners[channel]
            for one in same_heads(patterns, owners):
                first, second = sorted((owners[one.first], owners[one.second]))
                known = pairs.get((first, second), 0.0)
                pairs[first, second] = max(known, one.correlation)
        ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        stopping = [pair for pair in ordered if any(self.known[name] for name in pair[0])]
        if mode == "stop" and stopping:
            raise InputError(
                f"{as_words(stopping)}; give both one patient in files.csv (`auglift scan BATCH`"
                " proposes it) or leave one out; where they are two people after all, set"
                " slices.same_head to warn"
            )
        if ordered:
            print(f"slices: the split may leak: {as_words(ordered)}")
        return {
            "mode": mode,
            "volumes": sum(map(len, self.patterns.values())),
            "pairs": [{"subjects": list(names), "correlation": r} for names, r in ordered],
        }


def as_words(pairs: list[tuple[tuple[str, str], float]]) -> str:
    """The surest pairs and how many more there are."""
    shown = ", ".join(f"{a} and {b} (correlation {r:.2f})" for (a, b), r in pairs[:SHOWN])
    more = f" and {len(pairs) - SHOWN} more pairs" if len(pairs) > SHOWN else ""
    return f"volumes of two patients show the same head: {shown}{more}"

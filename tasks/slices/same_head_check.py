"""Stop the run, or warn, when the volumes of two patients show the same head."""

from collections import defaultdict
from typing import Any, Literal

from tasks.slices.same_head import HeadPattern, find_same_heads, head_pattern
from tasks.stage.errors import InputError
from tasks.volumes.native_session import NativeSession
from tasks.volumes.sessions import Session

PAIRS_SHOWN = 3  # pairs on the terminal; stats.json has all


class SameHeadCheck:
    """The head patterns of all sliced volumes, and the patient of each."""

    def __init__(self) -> None:
        """Start without any pattern."""
        self.patterns: dict[int, list[HeadPattern]] = defaultdict(list)  # by channel
        self.owners: dict[int, list[str]] = defaultdict(list)
        self.is_known: dict[str, bool] = {}  # by patient

    def add_session(self, session: Session, native: NativeSession) -> None:
        """Add the patterns of a session's volumes; 2D images of one slice have none."""
        for channel, volume in enumerate(native.channels):
            if (head := head_pattern(volume, native.brain)) is not None:
                self.patterns[channel].append(head)
                self.owners[channel].append(session.subject)
        self.is_known[session.subject] = bool(session.rows[0].get("patient_known", True))

    def check_pairs(self, mode: Literal["stop", "warn", "off"]) -> dict[str, Any]:
        """Compare the volumes of each modality; return the entry `same_head` of `stats.json`.

        Two patients who are both unknown do not stop the run; the warning that their split may leak
        is printed all the same.

        Raises:
            InputError: naming the (pseudonymous) patients, where the mode is `stop`.
        """
        pairs: dict[tuple[str, str], float] = {}
        for channel, patterns in self.patterns.items():
            owners = self.owners[channel]
            for match in find_same_heads(patterns, owners):
                first, second = sorted((owners[match.first], owners[match.second]))
                highest = pairs.get((first, second), 0.0)
                pairs[first, second] = max(highest, match.correlation)
        ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        stopping = [pair for pair in ranked if any(self.is_known[name] for name in pair[0])]
        if mode == "stop" and stopping:
            raise InputError(
                f"{name_pairs(stopping)}; give both one patient in files.csv (`auglift scan BATCH`"
                " proposes it) or leave one out; where they are two people after all, set"
                " slices.same_head to warn"
            )
        if ranked:
            print(f"slices: the split may leak: {name_pairs(ranked)}")
        return {
            "mode": mode,
            "volumes": sum(map(len, self.patterns.values())),
            "pairs": [{"subjects": list(names), "correlation": r} for names, r in ranked],
        }


def name_pairs(pairs: list[tuple[tuple[str, str], float]]) -> str:
    """Name the most similar pairs and say how many more there are."""
    shown = ", ".join(f"{a} and {b} (correlation {r:.2f})" for (a, b), r in pairs[:PAIRS_SHOWN])
    more = f" and {len(pairs) - PAIRS_SHOWN} more pairs" if len(pairs) > PAIRS_SHOWN else ""
    return f"volumes of two patients show the same head: {shown}{more}"

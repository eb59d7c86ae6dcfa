"""What the toolkit claims, over thousands of random draws: norms that are met, and bounds that hold.

    python benchmarks/claims.py control --requests 10000 --jobs 2 --out claims
    python benchmarks/claims.py ladders --draws 2000 --jobs 2 --out ladder_claims.txt

``control_claims`` and ``ladder_claims`` say what is drawn and what is counted; ``--help`` after the name lists options.
"""

import sys

import control_claims
import ladder_claims

CLAIMS = {"control": control_claims.main, "ladders": ladder_claims.main}


def main() -> None:
    """Check the claims that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in CLAIMS:
        sys.exit(f"{__doc__}\nname one of {', '.join(CLAIMS)}, got {name or 'nothing'}")
    CLAIMS[name](sys.argv[2:])


if __name__ == "__main__":
    main()

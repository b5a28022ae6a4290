"""Settings that every test shares."""

import os

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(".cache/hypothesis")

# No deadline anywhere: a busy machine must not fail a test. In CI the examples are always the same
# and nothing is written.
if os.environ.get("CI"):
    settings.register_profile(
        "ours", deadline=None, derandomize=True, database=None, print_blob=True
    )
else:
    settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

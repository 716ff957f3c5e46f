from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_curves() -> Iterator[None]:
    """Drawing a run's curves takes longer than training it; tests/training/test_loop.py looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modiste.training.state.plot_history", lambda *_: None)
        yield

import pytest


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing a run's curves takes longer than training it; the shared run's are drawn, as are those of commands."""
    monkeypatch.setattr("modiste.training.state.plot_history", lambda *_: None)

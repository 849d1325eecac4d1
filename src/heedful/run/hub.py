"""A finished run to the Hugging Face hub; what could go wrong is asked before the run begins."""

from __future__ import annotations

from pathlib import Path

from heedful.errors import UserError, one_line

# What is the run's own affair: how it went on after interruptions, what others of its checkpoints are, and
# who judged how well.
LEFT_HERE = ("checkpoints/*", "state/*", "tensorboard/*", "raters.json", ".*", "**/.*")


def check(place: str | None) -> None:
    """UserError unless a model could be sent to `place`, ORG/NAME, now: the repository is made, so that it is known."""
    if place is None:
        return
    parts = place.split("/")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"--push-to-hub {place}: a place on the hub is ORG/NAME")
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise UserError(
            "--push-to-hub needs the hub, and HF_HUB_OFFLINE says that nobody is to be asked"
        )
    if huggingface_hub.get_token() is None:
        raise UserError(
            "--push-to-hub needs a token of the hub that may write: `hf auth login`, or set HF_TOKEN"
        )
    try:
        huggingface_hub.HfApi().create_repo(place, exist_ok=True)
    except Exception as error:  # no network, no rights, a name that cannot be
        raise UserError(f"--push-to-hub {place}: the hub refuses it: {one_line(error)}") from error


def push(folder: Path, place: str) -> None:
    """Upload a finished run's model, card, config and metrics. UserError if that fails; nothing here is lost then."""
    import huggingface_hub

    try:
        huggingface_hub.HfApi().upload_folder(
            repo_id=place,
            folder_path=folder,
            ignore_patterns=list(LEFT_HERE),
            commit_message="Upload by heedful",
        )
    except Exception as error:
        raise UserError(
            f"{folder} is finished and saved, but could not be sent to {place}: {one_line(error)}; "
            f"`hf upload {place} {folder}` sends it"
        ) from error

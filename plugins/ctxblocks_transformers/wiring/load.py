"""Loading a model with its tokenizer from a folder or the hub, and prompts as tokens; errors are one line each."""

import contextlib
import importlib.util
import os
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError, CtxblocksError, DeviceError, DtypeError
from ctxblocks_transformers.wiring.calling import input_device
from ctxblocks_transformers.wiring.checks import check_config


class LoadError(CtxblocksError):
    """A model could not be loaded."""


def load_model(
    name_or_folder: str | Path, dtype: torch.dtype | str | None = None, device: str | torch.device = "auto"
) -> tuple[Any, Any]:
    """A causal language model in evaluation mode, and its tokenizer, None if it has none.

    Args:
        name_or_folder: a folder written by `save_pretrained`, a GGUF file, or a name on the hub such as `"org/name"`.
        dtype: the dtype of the weights, such as `torch.float32` or its name; by default the checkpoint's own.
        device: `"auto"` selects CUDA if there is a GPU.

    Raises:
        LoadError: transformers is missing, there is no such model, or its files are incomplete.
        ArgumentError: the model is an encoder-decoder.
        DtypeError, DeviceError: no such dtype or device.
    """
    wanted, where, name = _dtype(dtype), _device(device), os.path.expanduser(name_or_folder)
    with _library() as transformers:
        config, options = _config(transformers, name)
        name = _folder(name)
        load = transformers.AutoModelForCausalLM.from_pretrained
        model, info = _tried(
            name, load, name, config=config, dtype=wanted or "auto", output_loading_info=True, **options
        )
        if missing := sorted(info["missing_keys"]):
            raise LoadError(
                f"model: {name!r} lacks {len(missing)} weights, such as {missing[0]!r}, which would be initialised at random; "
                f"needs a checkpoint of a causal language model"
            )
        tokenizer = _tokenizer(transformers, name, options)
    if model.dtype == torch.float64 and hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the default kernel does not support float64
    return model.to(where).eval(), tokenizer


def load_skeleton(name_or_folder: str | Path) -> Any:
    """The model without weights (on the meta device), from its configuration alone.

    Raises:
        LoadError, ArgumentError: see `load_model`.
    """
    name = os.path.expanduser(name_or_folder)
    with _library() as transformers, torch.device("meta"):
        config, _ = _config(transformers, name)
        return _tried(name, transformers.AutoModelForCausalLM.from_config, config).eval()


def prompt_tokens(
    model: Any, tokenizer: Any, prompt: str | None = None, tokens: str | Sequence[int] | None = None
) -> Tensor:  # (1, T)
    """A prompt as tokens on the model's device: a text for the tokenizer, or the indices of the tokens.

    Raises:
        ArgumentError: both or neither are given, there is no tokenizer for a text, or a token is not a number.
    """
    if (prompt is None) == (tokens is None):
        raise ArgumentError(
            f"prompt: got {'none' if prompt is None else 'a text and tokens'}, needs a text or tokens, one of them"
        )
    if tokens is not None:
        ids = _numbers(tokens)
    elif tokenizer is None:
        raise ArgumentError("prompt: got a text for a model without a tokenizer, needs tokens, such as --tokens 1,2,3")
    else:
        ids = list(tokenizer(_text(prompt))["input_ids"])
    return torch.tensor([ids], dtype=torch.int64, device=input_device(model))


def _text(prompt: str | None) -> str:
    """The prompt, if it is a text."""
    assert prompt is not None
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"prompt: got bytes that are no UTF-8, such as {error.object[error.start]!r}, needs a text"
        ) from error
    return prompt


def _numbers(tokens: str | Sequence[int]) -> list[int]:
    parts = tokens.replace(",", " ").split() if isinstance(tokens, str) else tokens
    try:
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        raise ArgumentError(f"tokens: got {tokens!r}, needs numbers separated by commas, such as 1,2,3") from None
    if beyond := [number for number in numbers if not 0 <= number < 2**63]:
        raise ArgumentError(f"tokens: got {beyond[0]}, needs numbers from 0 on that are indices of the vocabulary")
    return numbers


@contextlib.contextmanager
def _library() -> Iterator[ModuleType]:
    """The library `transformers`, which logs errors only, and shows progress bars only on a terminal."""
    try:
        import transformers
    except ImportError as error:
        raise LoadError(
            f"transformers: cannot be imported ({error}), needed for language models; "
            f'install it with pip install "ctxblocks[lm]"'
        ) from error
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _config(transformers: ModuleType, name: str) -> tuple[Any, dict[str, Any]]:
    """The model's configuration, checked, and the options with which to load its other files."""
    folder, gguf = Path(_folder(name)), name.endswith(".gguf") and Path(name).is_file()
    local = folder.is_dir()
    if not local and (folder.exists() or folder.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise LoadError(
            f"model: {name!r} is not a folder, needs one with config.json and weights, a GGUF file, or a name on the hub"
        )
    if local and not gguf and not (folder / "config.json").is_file():
        raise LoadError(f"model: the folder {name!r} contains no config.json, needs one that save_pretrained wrote")
    options: dict[str, Any] = {"local_files_only": local or not _hub_in_reach(), "trust_remote_code": False}
    if gguf:
        _check_installed("gguf", "accelerate")
        options["gguf_file"] = Path(name).name
    try:
        config = transformers.AutoConfig.from_pretrained(folder if gguf else name, **options)
    except Exception as error:
        if local or not isinstance(error, OSError):
            raise LoadError(f"model: the configuration of {name!r} cannot be read: {_first(error)}") from error
        reason = "the hub cannot be reached" if options["local_files_only"] else f"the hub says: {_first(error)}"
        raise LoadError(
            f"model: {name!r} is not a folder here, is not in the cache, and {reason}; needs a folder, or a name on the hub"
        ) from error
    check_config(config, name)
    return config, options


def _folder(name: str) -> str:
    """The folder of a GGUF file, else the name itself."""
    return str(Path(name).parent) if name.endswith(".gguf") and Path(name).is_file() else name


def _check_installed(*packages: str) -> None:
    """Raise if a package that reads the file is missing.

    Raises:
        LoadError: one is.
    """
    missing = [each for each in packages if importlib.util.find_spec(each) is None]
    if missing:
        raise LoadError(
            f"model: a GGUF file needs the package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}; install with "
            f'pip install "ctxblocks[lm]"'
        )


def _tokenizer(transformers: ModuleType, name: str, options: dict[str, Any]) -> Any:
    """The tokenizer, None if there is none; one that turns letters into no tokens was built without its files."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
    except Exception:  # whatever is missing, the model can be used with tokens
        return None
    return tokenizer if tokenizer("a b", add_special_tokens=False)["input_ids"] else None


def _tried(name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return call(*args, **options)
    except Exception as error:
        raise LoadError(f"model: {name!r} cannot be loaded: {_first(error)}") from error


def _first(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _hub_in_reach() -> bool:
    """Whether the hub's address resolves; if it does not, every file would be requested several times."""
    import huggingface_hub

    host = urllib.parse.urlparse(huggingface_hub.constants.ENDPOINT).hostname
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    if host is None or urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    wanted = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(wanted, torch.dtype) and wanted.is_floating_point):
        raise DtypeError(f"dtype: got {dtype!r}, needs a floating-point one, such as 'float32' or 'bfloat16'")
    return wanted


def _device(device: str | torch.device) -> torch.device:
    try:
        wanted = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    except RuntimeError:
        raise DeviceError(f"device: got {device!r}, needs 'auto', 'cpu' or 'cuda'") from None
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device: got {str(device)!r}, needs a GPU that torch can use, and there is none; use 'cpu' or 'auto'"
        )
    return wanted

from __future__ import annotations

import pytest
import torch

from penstock.encoders.sub_batching import FailureCause
from penstock.encoders.torch_errors import classify_error, load_error
from penstock.encoders.whisper import classify_error as classify_ctranslate2_error
from penstock.errors import ConfigError, UnavailableError


@pytest.mark.parametrize(
    ("exc", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), FailureCause.MEMORY),
        (MemoryError(), FailureCause.MEMORY),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            FailureCause.MEMORY,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), FailureCause.DEVICE),
        (torch.AcceleratorError("device-side assert triggered", 1), FailureCause.DEVICE),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), FailureCause.ITEM),
        (ValueError("CUDA error"), FailureCause.ITEM),
    ],
)
def test_an_exception_of_torch_has_its_cause(exc: Exception, cause: FailureCause) -> None:
    assert classify_error(exc) is cause


@pytest.mark.parametrize(
    ("exc", "cause"),
    [
        (RuntimeError("CUDA failed with error out of memory"), FailureCause.MEMORY),
        (RuntimeError("CUDA failed with error unspecified launch failure"), FailureCause.DEVICE),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"), FailureCause.DEVICE),
        (ValueError("Invalid input features shape"), FailureCause.ITEM),
    ],
)
def test_an_exception_of_ctranslate2_has_its_cause(exc: Exception, cause: FailureCause) -> None:
    assert classify_ctranslate2_error(exc) is cause


def test_a_model_for_which_there_is_no_memory_may_be_loaded_later() -> None:
    assert isinstance(load_error(MemoryError(), "m"), UnavailableError)
    assert isinstance(load_error(OSError("no such file"), "m"), ConfigError)


def test_memory_that_a_cpu_really_lacks_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**52, dtype=torch.uint8)
    assert classify_error(caught.value) is FailureCause.MEMORY

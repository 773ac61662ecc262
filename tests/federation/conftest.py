"""Keys of three sites, new for each test."""

import pytest
from standin import make_keys


@pytest.fixture
def keys():
    return make_keys()

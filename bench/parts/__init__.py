"""What is measured: each module has ``run(options) -> Iterator[Figure]``; `bench.__main__` names them."""

FAULT_NAMES: tuple[str, ...]

class HeadError(ValueError):
    fault: str
    status: int
    def __init__(self, fault: str, status: int, text: str) -> None: ...

def head_error(fault: int) -> HeadError: ...

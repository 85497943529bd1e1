from typing import final

@final
class Worker:
    def run(self) -> None: ...

"""The errors that expunge raises for a user's mistake or a failed promise. Imports nothing."""


class ExpungeError(Exception):
    """A user's mistake or a failed promise, told in one line.

    `str(error)` is the message followed by the hint. Programs compare the fields.

    Args:
        message: What happened, with the value, and why if that is not plain: "Loss became NaN at step 3 (term 'forget')."
        rule: A short stable name of the rule that was broken, such as "unknown-method".
        value: The value that broke it.
        hint: What to do about it: "Try a lower --lr or fp32."
    """

    def __init__(self, message: str, *, rule: str = "", value: object = None, hint: str = ""):
        super().__init__(f"{message} {hint}" if hint else message)
        self.rule, self.value, self.hint = rule, value, hint


class UndeclaredNeed(ExpungeError):
    """A method read a part of its batch that it had not declared in `needs`."""


class NonFiniteLoss(ExpungeError):
    """The loss or a gradient became infinite or NaN. The last good weights are in place and in the checkpoint."""


class Inapplicable(ExpungeError):
    """An attack cannot be made on this model or concept; an audit notes it and goes on."""


class ExpungeWarning(UserWarning):
    """Something that a user should know and that stops nothing. The command line prints it as one line."""

"""The errors of SQS and of AWS in general, as they look on the wire."""

from __future__ import annotations

import json

QUERY_CODES = {
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "InvalidMessageContents": "InvalidMessageContents",
    "KmsAccessDenied": "KMS.AccessDeniedException",
    "KmsDisabled": "KMS.DisabledException",
    "KmsInvalidState": "KMS.InvalidStateException",
    "KmsNotFound": "KMS.NotFoundException",
    "KmsThrottled": "KMS.ThrottlingException",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "MissingParameter": "MissingParameter",
    "OverLimit": "OverLimit",
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "ReceiptHandleIsInvalid": "ReceiptHandleIsInvalid",
    "RequestThrottled": "RequestThrottled",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
}
"""Errors that the model of SQS names, with their name in the old query protocol, sent in `x-amzn-query-error`.

Clients such as botocore report the old name. Every other code is one of AWS in general.
"""

STATUS = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InternalFailure": 500,
    "InvalidClientTokenId": 403,
    "InvalidSignatureException": 403,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "UnrecognizedClientException": 403,
}
"""HTTP status of an error; 400 for those that are not here."""


class SqsError(Exception):
    """A request that SQS refuses. `status` replaces the usual HTTP status of `code`."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS.get(code, 400)

    @property
    def body(self) -> str:
        """The answer's body."""
        namespace = "com.amazonaws.sqs" if self.code in QUERY_CODES else "com.amazon.coral.service"
        return json.dumps({"__type": f"{namespace}#{self.code}", "message": self.message})

    @property
    def headers(self) -> dict[str, str]:
        """The answer's own headers."""
        if self.code not in QUERY_CODES:
            return {}
        fault = "Receiver" if self.status > 499 else "Sender"
        return {"x-amzn-query-error": f"{QUERY_CODES[self.code]};{fault}"}

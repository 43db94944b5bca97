# mypy: disable-error-code=type-arg
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Value(_message.Message):
    __slots__ = ("text", "number", "texts")
    class Strings(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    text: str
    number: float
    texts: Value.Strings
    def __init__(self, text: _Optional[str] = ..., number: _Optional[float] = ..., texts: _Optional[_Union[Value.Strings, _Mapping]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("id", "features")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    id: str
    features: _containers.MessageMap[str, Value]
    def __init__(self, id: _Optional[str] = ..., features: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("user", "context", "candidates", "count", "event_time", "request_id")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    USER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user: str
    context: _containers.MessageMap[str, Value]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    count: int
    event_time: int
    request_id: str
    def __init__(self, user: _Optional[str] = ..., context: _Optional[_Mapping[str, Value]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., count: _Optional[int] = ..., event_time: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("request_id", "items", "model", "policy", "fallback", "degraded", "logged")
    class Item(_message.Message):
        __slots__ = ("id", "position", "score", "propensity")
        ID_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        SCORE_FIELD_NUMBER: _ClassVar[int]
        PROPENSITY_FIELD_NUMBER: _ClassVar[int]
        id: str
        position: int
        score: float
        propensity: float
        def __init__(self, id: _Optional[str] = ..., position: _Optional[int] = ..., score: _Optional[float] = ..., propensity: _Optional[float] = ...) -> None: ...
    class Model(_message.Message):
        __slots__ = ("name", "version", "sequence", "epoch")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        EPOCH_FIELD_NUMBER: _ClassVar[int]
        name: str
        version: int
        sequence: int
        epoch: int
        def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., sequence: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    LOGGED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    items: _containers.RepeatedCompositeFieldContainer[RecommendResponse.Item]
    model: RecommendResponse.Model
    policy: str
    fallback: str
    degraded: _containers.RepeatedScalarFieldContainer[str]
    logged: bool
    def __init__(self, request_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RecommendResponse.Item, _Mapping]]] = ..., model: _Optional[_Union[RecommendResponse.Model, _Mapping]] = ..., policy: _Optional[str] = ..., fallback: _Optional[str] = ..., degraded: _Optional[_Iterable[str]] = ..., logged: _Optional[bool] = ...) -> None: ...

class RecordSlateRequest(_message.Message):
    __slots__ = ("user", "context", "items", "event_time", "request_id")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    USER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user: str
    context: _containers.MessageMap[str, Value]
    items: _containers.RepeatedCompositeFieldContainer[Candidate]
    event_time: int
    request_id: str
    def __init__(self, user: _Optional[str] = ..., context: _Optional[_Mapping[str, Value]] = ..., items: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., event_time: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecordSlateResponse(_message.Message):
    __slots__ = ("request_id", "logged", "degraded")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LOGGED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    logged: bool
    degraded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., logged: _Optional[bool] = ..., degraded: _Optional[_Iterable[str]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("request_id", "item_id", "kind", "value", "event_id", "event_time", "sent_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SENT_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    item_id: str
    kind: str
    value: float
    event_id: str
    event_time: int
    sent_time: int
    def __init__(self, request_id: _Optional[str] = ..., item_id: _Optional[str] = ..., kind: _Optional[str] = ..., value: _Optional[float] = ..., event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., sent_time: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("accepted", "event_id", "field", "detail")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    event_id: str
    field: str
    detail: str
    def __init__(self, accepted: _Optional[bool] = ..., event_id: _Optional[str] = ..., field: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

import datetime
import json
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Order(BaseModel):
    id: int
    when: datetime.datetime
    price: Decimal = Field(gt=0, decimal_places=2)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    parts: list["Order"] = []

    @field_validator("id")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value

    @field_serializer("price")
    def cents(self, price: Decimal) -> int:
        return int(price * 100)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.id


def use(seed: int) -> None:
    text = json.dumps(
        {
            "id": 2 * seed,
            "when": "2024-02-29T12:00:00Z",
            "price": "12.50",
            "pet": {"kind": "dog", "tricks": ["sit"]},
            "parts": [
                {"id": "4", "when": 0, "price": 1, "pet": {"kind": "cat"}} for _ in range(300)
            ],
        }
    )
    order = Order.model_validate_json(text)
    assert order.id == 2 * seed and order.double == 4 * seed
    assert order.when == datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    assert isinstance(order.pet, Dog) and order.price == Decimal("12.50")
    assert [part.pet for part in order.parts] == [Cat(kind="cat", lives=9)] * 300
    back = json.loads(order.model_dump_json())
    assert back["price"] == 1250 and back["double"] == 4 * seed
    assert back["when"] == "2024-02-29T12:00:00Z" and back["parts"][0]["id"] == 4

    try:
        Order.model_validate({"id": 3, "when": "never", "price": "-1", "pet": {"kind": "fish"}})
    except ValidationError as error:
        found = {(e["loc"][0], e["type"]) for e in error.errors()}
        assert found == {
            ("id", "value_error"),
            ("when", "datetime_from_date_parsing"),
            ("price", "greater_than"),
            ("pet", "union_tag_invalid"),
        }, found
    else:
        raise AssertionError("no ValidationError")

    class Local(BaseModel, extra="allow", frozen=True):
        """A model made in the call: its core schema is compiled now."""

        number: int = Field(ge=seed)

    assert Local(number=seed, more="x").model_extra == {"more": "x"}
    numbers: TypeAdapter[dict[str, list[int]]] = TypeAdapter(dict[str, list[int]])
    assert numbers.validate_python({"a": ("1", 2.0, True)}) == {"a": [1, 2, 1]}
    schema = Order.model_json_schema()
    assert schema["$defs"]["Cat"]["properties"]["lives"]["default"] == 9

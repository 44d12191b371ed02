import datetime
import decimal
import importlib
import pkgutil
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.util import has_compiled_ext


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    books: orm.Mapped[list["Book"]] = orm.relationship(
        back_populates="author", cascade="all, delete-orphan"
    )


class Book(Base):
    __tablename__ = "book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    price: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(8, 2, asdecimal=True))
    printed: orm.Mapped[datetime.date]
    extra: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON, default=dict)
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def compiled_modules() -> list[str]:
    """Which of SQLAlchemy's modules that can be compiled are so here."""
    import sqlalchemy.engine
    import sqlalchemy.sql
    import sqlalchemy.util

    found = []
    for package in (sqlalchemy.engine, sqlalchemy.sql, sqlalchemy.util):
        for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            if info.name.endswith("_cy"):
                file = importlib.import_module(info.name).__file__ or ""
                assert file.endswith(".so"), file
                found.append(info.name)
    return found


def use(seed: int) -> None:
    assert has_compiled_ext() and len(compiled_modules()) >= 4
    engine = sa.create_engine("sqlite://", connect_args={"detect_types": 0})
    try:
        Base.metadata.create_all(engine)
        orm_use(engine, seed)
        core_use(engine, seed)
    finally:
        engine.dispose()


def orm_use(engine: sa.Engine, seed: int) -> None:
    day = datetime.date(2024, 2, 29)
    with orm.Session(engine) as session:
        for a in range(10):
            author = Author(name=f"Ann {a}")
            author.books = [
                Book(
                    title=f"№ {seed + b}",
                    price=decimal.Decimal(b) / 4,
                    printed=day,
                    extra={"b": [b]},
                )
                for b in range(20)
            ]
            session.add(author)
        session.commit()
    with orm.Session(engine) as session:
        query = (
            sa.select(Author.name, sa.func.count(), sa.func.sum(Book.price))
            .join(Author.books)
            .where(Book.title != f"№ {seed}")
            .group_by(Author.name)
            .order_by(Author.name)
        )
        rows = session.execute(query).all()
        assert [tuple(row) for row in rows] == [
            (f"Ann {a}", 19, decimal.Decimal("47.5")) for a in range(10)
        ]
        assert rows[0].name == "Ann 0" and rows[0]._mapping["name"] == "Ann 0"
        first = session.scalars(
            sa.select(Author).options(orm.selectinload(Author.books)).order_by(Author.id)
        ).first()
        assert first is not None and len(first.books) == 20
        book = first.books[7]
        assert (book.extra, book.printed, book.price) == (
            {"b": [7]},
            day,
            decimal.Decimal("1.75"),
        )
        del first.books[3:]
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 183
        session.add(Author(name="Ann 1"))
        try:
            session.flush()
        except sa.exc.IntegrityError as error:
            assert "UNIQUE" in str(error.orig)
            session.rollback()
        else:
            raise AssertionError("no IntegrityError")


def core_use(engine: sa.Engine, seed: int) -> None:
    table = sa.Table(
        f"t{seed}",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", sa.Float),
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"x": i / 4} for i in range(1000)])
        total = connection.scalar(sa.select(sa.func.sum(table.c.x)))
        assert total == 999 * 1000 / 8
        rows = connection.execute(sa.text("SELECT :a + 1, :b"), {"a": seed, "b": "it's"})
        assert rows.one() == (seed + 1, "it's")
        table.drop(connection)
    statement = sa.select(table.c.x).where(table.c.id.in_([1, seed])).limit(3)
    assert "IN (__[POSTCOMPILE_id_1])" in str(statement)

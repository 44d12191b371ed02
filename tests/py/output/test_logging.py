"""Log records of interpreters that have configured nothing are main's."""

import logging
import os
import threading

import atoll
import pytest
from support import check_python, run_python


class Keep(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """What a handler of main's logger "app" gets, which lets all levels pass."""
    logger, handler = logging.getLogger("app"), Keep()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.records
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def test_a_record_arrives(kept):
    with atoll.create() as interp:
        interp.exec(
            "import logging, threading\n"
            "threading.current_thread().name = 'worker'\n"
            "logging.getLogger('app.part').warning("
            "    '%s is %d', 'x', 1, extra={'k': [1], 'n': 2})"
        )
        [record] = kept
        assert isinstance(record, logging.LogRecord)
        assert record.name == "app.part"
        assert (record.levelno, record.levelname) == (logging.WARNING, "WARNING")
        assert (record.msg, record.args, record.getMessage()) == ("x is 1", None, "x is 1")
        assert record.interpreter == interp.id
        assert record.threadName == "worker"
        assert record.processName == f"interpreter-{interp.id}"
        assert record.process == os.getpid()
        assert (record.k, record.n) == ("[1]", 2)
        assert record.lineno == 3 and record.funcName == "<module>"
        now = logging.makeLogRecord({})
        assert 0 <= now.created - record.created < 60
        assert 0 <= now.relativeCreated - record.relativeCreated < 60_000
        assert logging.Formatter("%(name)s:%(message)s").format(record) == "app.part:x is 1"


def test_formats_that_tell_processes_or_threads_apart_tell_workers_apart(kept):
    with atoll.InterpreterPoolExecutor(1, name="forge") as pool:
        pool.submit(logs_here_and_in_a_thread).result()
        id = pool.stats().workers[0].interpreter
    assert [record.processName for record in kept] == [f"forge-{id}"] * 2
    assert [record.threadName for record in kept] == [f"forge-{id}", "aside"]


def logs_here_and_in_a_thread():
    logging.getLogger("app").warning("here")
    thread = threading.Thread(target=logging.getLogger("app").warning, args=("there",),
                              name="aside")  # fmt: skip
    thread.start()
    thread.join()



def configures():
    logging.basicConfig(format="own %(message)s")
    logging.warning("configured")


@pytest.mark.parametrize("how", ["script", "worker"])
def test_the_functions_of_the_module_do_not_cut_a_worker_off(how):
    """They call basicConfig(), which does nothing there: main's handlers rule."""
    call = "pool.submit(work).result()" if how == "worker" else "work()"
    out = check_python(
        "import atoll, logging, sys\n"
        "logging.basicConfig(stream=sys.stdout, format='main %(name)s %(message)s')\n"
        "def work():\n"
        "    logging.error('one'); logging.getLogger('a').error('two'); logging.error('3')\n"
        f"with atoll.InterpreterPoolExecutor(1) as pool: {call}"
    )
    assert out.splitlines() == ["main root one", "main a two", "main root 3"]


def test_a_worker_that_configures_logging_itself_has_its_own_way(kept, capfd):
    with atoll.create() as interp:
        interp.call(configures)
    assert kept == []
    assert "own configured" in capfd.readouterr().err


def test_an_exception_arrives_as_text(kept):
    with atoll.create() as interp:
        interp.exec(
            "import logging\n"
            "try: 1/0\n"
            "except Exception: logging.getLogger('app').exception('oops', stack_info=True)"
        )
    [record] = kept
    assert record.exc_info is None
    assert record.exc_text.endswith("ZeroDivisionError: division by zero")
    assert "Stack (most recent call last)" in record.stack_info
    assert "ZeroDivisionError" in logging.Formatter().format(record)


def test_levels_are_those_of_main(kept):
    """Those when it was made, for what is sent; those of now, for what counts."""
    with atoll.create() as interp:
        interp.exec(
            "import logging\n"
            "log = logging.getLogger('app')\n"
            "assert log.isEnabledFor(logging.DEBUG)\n"
            "assert not logging.getLogger('other').isEnabledFor(logging.INFO)\n"
            "log.debug('one')"
        )
        logging.getLogger("app").setLevel(logging.ERROR)
        interp.exec("log.debug('two'); log.error('three')")
    assert [r.msg for r in kept] == ["one", "three"]


def test_disabled_levels_are_those_of_main(kept):
    logging.disable(logging.INFO)
    try:
        with atoll.create() as interp:
            interp.exec(
                "import logging\n"
                "assert not logging.getLogger('app').isEnabledFor(logging.INFO)"
            )
    finally:
        logging.disable(logging.NOTSET)


def test_caplog(caplog):
    with atoll.create() as interp:
        interp.exec("import logging; logging.getLogger('else').warning('seen')")
    assert caplog.record_tuples == [("else", logging.WARNING, "seen")]


def test_order_with_prints(kept, capsys):
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((record.msg, capsys.readouterr().out))

    handler = Handler()
    logging.getLogger("app").addHandler(handler)
    try:
        with atoll.create() as interp:
            interp.exec(
                "import logging\n"
                "for n in range(5):\n"
                "    print('print', n)\n"
                "    logging.getLogger('app').info('log %d', n)"
            )
    finally:
        logging.getLogger("app").removeHandler(handler)
    assert seen == [(f"log {n}", f"print {n}\n") for n in range(5)]


def test_an_interpreter_that_configures_has_its_own_way(kept, capsys):
    with atoll.create() as interp:
        interp.exec(
            "import logging\n"
            "logging.basicConfig(level='INFO', format='there: %(message)s')\n"
            "logging.getLogger('app').info('mine')"
        )
    assert kept == []
    assert capsys.readouterr().err == "there: mine\n"


def test_a_handler_of_one_logger(kept, capsys):
    with atoll.create() as interp:
        interp.exec(
            "import logging\n"
            "logging.getLogger('app.own').addHandler(logging.StreamHandler())\n"
            "logging.getLogger('app.own').warning('own')\n"
            "logging.getLogger('app.main').warning('main')"
        )
    assert [r.msg for r in kept] == ["main"]
    assert capsys.readouterr().err == "own\n"


def test_an_interpreter_in_an_interpreter(kept):
    with atoll.create() as interp:
        interp.exec(
            "import atoll\n"
            "with atoll.create() as inner:\n"
            "    inner.exec('import logging; logging.getLogger(\"app\").debug(\"inner\")')"
        )
    assert [r.msg for r in kept] == ["inner"]


def test_main_without_logging():
    """It imports it then, and its last resort prints warnings."""
    done = run_python(
        """
        import atoll, sys
        interp = atoll.create()
        assert "logging" not in sys.modules
        interp.exec('''if 1:
            import sys
            assert "logging" not in sys.modules
            import logging
            logging.getLogger("a").info("no")
            logging.getLogger("a").warning("yes")
        ''')
        assert "logging" in sys.modules
        """
    )
    assert (done.returncode, done.stderr) == (0, "yes\n")


def test_the_import_is_left_as_it_was():
    check_python(
        """
        import atoll
        atoll.create().exec('''if 1:
            import sys
            before = [f for f in sys.meta_path if f.__name__ != "_First"]
            assert len(before) + 1 == len(sys.meta_path)
            import logging, logging.handlers, inspect, importlib
            assert sys.meta_path == before
            assert "exec_module" not in vars(logging.__spec__.loader)
            assert "class Logger" in inspect.getsource(logging)
            assert logging.getLogger().level == logging.WARNING
        ''')
        """
    )


def test_a_main_handler_that_raises(kept):
    """It is reported, and the next record is handled."""
    out = run_python(
        """
        import atoll, logging
        class Bad(logging.Handler):
            def handle(self, record): raise RuntimeError("bad handler")
        logging.getLogger("bad").addHandler(Bad())
        logging.getLogger("good").addHandler(logging.StreamHandler())
        atoll.create().exec('''if 1:
            import logging
            logging.getLogger("bad").warning("1")
            logging.getLogger("good").warning("2")
        ''')
        """
    )
    assert out.returncode == 0
    assert "RuntimeError: bad handler" in out.stderr
    assert out.stderr.endswith("2\n")


def test_no_thread_is_left_in_threading():
    """Handling a record live must not leave a dummy thread."""
    check_python(
        """
        import atoll, logging, threading, time
        seen = []
        class Handler(logging.Handler):
            def emit(self, record):
                seen.append(threading.current_thread().name)
        logging.getLogger("app").addHandler(Handler())
        interp = atoll.create()
        ready = atoll.create_queue()
        interp.prepare_main(ready=ready)
        thread = threading.Thread(target=interp.exec, args=(
            "import logging; logging.getLogger('app').warning('x'); ready.get()",))
        thread.start()
        while not seen: time.sleep(0.001)
        ready.put(1)
        thread.join()
        end = time.monotonic() + 10
        while threading.enumerate() != [threading.main_thread()]:
            assert time.monotonic() < end, threading.enumerate()
        """
    )


def test_classes_of_loggers_are_the_interpreters():
    """Levels of main's loggers wait until the interpreter makes its own."""
    check_python("""
import logging, atoll
logging.getLogger("package").setLevel(10)
logging.getLogger("other").setLevel(40)
with atoll.create() as interp:
    interp.exec('''if 1:
        import logging
        class Mine(logging.Logger): pass
        logging.setLoggerClass(Mine)
        package = logging.getLogger("package")
        assert type(package) is Mine and package.level == 10
        below = logging.getLogger("other.below.it")
        assert below.getEffectiveLevel() == 40
        assert logging.getLogger("package") is package
        assert "getLogger" not in vars(logging.root.manager)
    ''')
""")


def test_redirected_stderr_has_what_nobody_handles(kept, capfd):
    """As in main. Afterwards it is main's again."""
    with atoll.create() as interp:
        interp.exec("""if 1:
            import contextlib, io, logging, sys
            log = logging.getLogger("app")
            log.warning("before")
            with contextlib.redirect_stderr(io.StringIO()) as out:
                log.warning("a %s", "warning")
                log.info("not as much as that")
                try: 1/0
                except Exception: log.exception("an error")
            log.warning("after")
            text = out.getvalue()
            with contextlib.redirect_stderr(None): # as in main: dropped
                log.warning("nowhere")
        """)
        text = interp.call(eval, "text")
    assert text.startswith("a warning\nan error\nTraceback (most recent call last)")
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert [record.msg for record in kept] == ["before", "after"]
    assert capfd.readouterr().err == ""


def test_redirected_before_logging_is_imported(kept):
    with atoll.create() as interp:
        interp.exec("""if 1:
            import contextlib, io
            with contextlib.redirect_stderr(io.StringIO()) as out:
                import logging
                logging.getLogger("app").error("here")
            logging.getLogger("app").error("there")
            text = out.getvalue()
        """)
        assert interp.call(eval, "text") == "here\n"
    assert [record.msg for record in kept] == ["there"]

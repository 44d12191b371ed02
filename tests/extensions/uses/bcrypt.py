import bcrypt


def use(seed: int) -> None:
    # Vectors of OpenBSD's implementation.
    salt = b"$2b$04$cVWp4XaNU8a4v1uMRum2SO"
    known = salt + b"026BWLIoQMD/TXg5uZV.0P.uO8m3YEm"
    assert bcrypt.hashpw(b"Kk4DQuMMfZL9o", salt) == known
    assert bcrypt.checkpw(b"Kk4DQuMMfZL9o", known)
    derived = bcrypt.kdf(b"password", b"salt", 32, 4, ignore_few_rounds=True)
    assert derived.hex() == "5bbf0cc293587f1c3635555c27796598d47e579071bf427e9d8fbe842aba34d9"

    for i in range(5):
        password = f"naïve {seed + i}".encode()
        hashed = bcrypt.hashpw(password, bcrypt.gensalt(4 + i % 2))
        assert len(hashed) == 60 and hashed.startswith(b"$2b$0%d$" % (4 + i % 2))
        assert bcrypt.checkpw(password, hashed)
        assert not bcrypt.checkpw(password + b"x", hashed)
    assert bcrypt.gensalt(4) != bcrypt.gensalt(4)
    for password, bad in ((b"x", b"no salt"), (b"a\x00b", b"$2b$99$" + salt[7:])):
        try:
            bcrypt.hashpw(password, bad)
        except ValueError:
            pass
        else:
            raise AssertionError("no ValueError")

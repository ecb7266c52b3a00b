"""A language is said where it can be told, and none is made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.wire.language import language


def guess(text: str) -> str:
    return language(text, frozenset(text.lower().split()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("how do i reset my password on the phone", "en"),
        ("wie kann ich mein passwort auf dem telefon zurücksetzen und wo ist das", "de"),
        ("comment puis je changer mon mot de passe pour le compte", "fr"),
        ("как сбросить мой пароль", "CYRILLIC"),
        ("パスワードをリセットする方法", "CJK"),
        ("reset password", ""),
        ("", ""),
        ("12345", ""),
    ],
)
def test_it_is_told_by_script_or_by_frequent_words(text: str, said: str) -> None:
    assert guess(text) == said


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    assert isinstance(guess(text), str)

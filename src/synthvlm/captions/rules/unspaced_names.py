"""People's names in scripts without spaces within them: Chinese, Japanese, Korean, Thai.

There are neither capitals nor words to go by, so a name is a listed family name with a listed given
name, or with a title behind it ("田中さん", "王先生", "김 씨"; in Thai before it).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from synthvlm.captions.rules.word_files import entries, package_text

__all__ = ["unspaced_names"]

_SCRIPTS = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
#: What a pattern takes for a name, and is a word.
_WORDS = re.compile(
    "朱丽叶|许多|曾经|周末|周围|周边|何时|何处|高中|黄金|白色|金色|常常|成熟|华丽|安静|文静|"
    "한국어|한국인|조선인|유치원|전문가|정치인|이웃집|임산부|신사분|고등학|중국어|이탈리|우리나|"
    "นายก|นายทหาร|นายพราน|นายแบบ|นางแบบ|นางฟ้า|นางเงือก|นางสงกรานต์|คุณภาพ|คุณค่า|คุณสมบัติ|ครูใหญ่"
)


def unspaced_names(text: str) -> Iterator[tuple[int, int]]:
    """Where names lie in a text, in order, none overlapping; ends are exclusive."""
    if _SCRIPTS.search(text) is None:
        return
    for match in _names().finditer(text):
        if _WORDS.match(match[0]) is None:
            yield match.span()


@cache
def _names() -> re.Pattern[str]:
    lists: dict[str, list[str]] = {}
    for line in entries(package_text("unspaced_names.txt")):
        kind, *names = line.split()
        lists.setdefault(kind, []).extend(names)

    def one_of(*kinds: str) -> str:
        # The longest first: an alternative that is the beginning of another would hide it.
        names = sorted({n for kind in kinds for n in lists[kind]}, key=lambda n: (-len(n), n))
        return f"(?:{'|'.join(map(re.escape, names))})"

    chinese, either = one_of("zh_family"), one_of("zh_family", "zh_family_word")
    korean = rf"(?<![가-힣]){one_of('ko_family')}"
    particle = "(?=[은는이가을를의와과도에께로랑만씨님]|[^가-힣]|$)"
    title, korean_title = one_of("zh_title"), one_of("ko_title")
    forms = (
        # Chinese
        rf"{either}{one_of('zh_given_two')}",
        rf"{chinese}(?:[\u4e00-\u9fff]{{1,2}}(?<![的是在了和与與位名个個一两兩有大这這那])(?<!的.))?{title}",
        rf"(?<![主双雙对對甲乙我敌任])[黄黃高林马馬董叶葉田钟鍾江石白金]{title}",
        rf"(?<![\u4e00-\u9fff]){chinese}{one_of('zh_given_one')}(?![度烈大])",
        # Japanese
        rf"{one_of('ja_family')}[ \u3000]?{one_of('ja_given')}",
        rf"{one_of('ja_family')}[ \u3000]?{one_of('ja_given_one')}(?![\u4e00-\u9fff])",
        rf"{one_of('ja_family')} ?{one_of('ja_title')}(?![式々子相態神名主])",
        rf"{one_of('ja_given')}(?:さん|くん|ちゃん)",
        # Korean
        rf"{korean} ?{one_of('ko_given')}{particle}",
        rf"{korean}[가-힣]{{2}} ?{korean_title}{particle}",
        rf"(?<![가-힣])[김박최정강조윤장임](?: ?씨){particle}",
        # Thai
        rf"{one_of('th_title')} ?{one_of('th_given')}(?: [\u0e00-\u0e7f]{{2,20}})?",
        rf"{one_of('th_given')} {one_of('th_family')}",
    )
    return re.compile("|".join(forms))

# SPDX-License-Identifier: Apache-2.0
"""Makes clean.json: [prompt, cleaned, looks misread (null: not asked)], as Wan's reference cleans prompts.

    python3 tests/data/make_clean.py tests/data        (ftfy 6.3)

Prompts are ordinary text of many languages, entities and other marks of markup, characters of odd width and their
kind, random mixtures of all that, and text that was read in the wrong encoding, which ftfy would repair: expected there
is what it does without the repair.
"""
import html
import json
import random
import re
import sys
import unicodedata

import ftfy

ORDINARY = """
a red circle moving right
A cat walks on the grass, realistic style.
Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a spotlighted stage.
“It’s a café”, she said… ‘really?’ — yes – no.
‹guillemets› «Le café…» «CAFÉ» „MENÜ“ „Köln“ »Ü«
naïve façade, coöperate, jalapeño, Ærøskøbing, Þórr, œuvre, ß straße
5 °C, 20 µm, ½ cup, 3 × 4 ÷ 2 ≠ ∞, £5, €10, ¥300, © ® ™ § ¶
L’été à Paris : déjà vu ! Où ? « Là-bas » n’est pas ici
Niño, ¿qué? ¡Olé! corazón, vergüenza
Ação, coração, maçã, São Paulo, à às àquele MAÇÃ “MANHÔ
Åse på øy; smörgåsbord; hyvää yötä; æ ø å Æ Ø Å
Zażółć gęślą jaźń; příliš žluťoučký kůň; ľúbiť; šđčćž; ăâîșț
Ördek; İstanbul ılık; ğüşöç
Кошка сидит на скейтборде, кинематографично. Ёлка — «ёж»
Дрібна їжа; ґанок; шчасце ў хаце; Ђорђе; ѝ
Η γάτα κάθεται στο σκέιτμπορντ· ἄνθρωπος ᾧ
חתול על סקייטבורד; שָׁלוֹם
قطة تجلس على لوح التزلج؛ مرحبا؟ ﷲ ﻻ
گربه روی اسکیت‌بورد نشسته است
بلی اسکیٹ بورڈ پر
बिल्ली स्केटबोर्ड पर बैठी है; क़ ज़
বিড়াল স্কেটবোর্ডে; য় ড়
பூனை ஸ்கேட்போர்டில் கொ
పిల్లి స్కేట్‌బోర్డ్ మీద
แมวนั่งบนสเก็ตบอร์ด น้ำ
ແມວນັ່ງ
မြန်မာ ကြောင်
ខ្មែរ ឆ្មា
កាត់ ស្រី
ქართული კატა
Կատու սքեյթբորդի վրա և
ድመት በስኬትቦርድ
고양이가 스케이트보드 위에 앉아 있다
ᄒᆞᆫ글 한글 각
ﾊﾛｰ ﾜｰﾙﾄﾞ ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ ﾞﾟ ｡｢｣､･
ﾡﾢﾣ ￂￃￄ
ネコがスケートボードに座っている。カメラは「ゆっくり」動く、夜。
ｆｕｌｌ　ｗｉｄｔｈ　ＴＥＸＴ　１２３！？（）［］｛｝～
￠￡￢￣￤￥￦ ￨￩￪￫￬￭￮
一只猫坐在滑板上，电影感，4K；（特写）“慢动作”…… ——《名》【注】、。
色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指
繁體中文，一隻貓。　全形空格
Mèo ngồi trên ván trượt; Tiếng Việt: ường, ầ, ẫ, ợ
Kucing duduk di papan luncur
Paka ameketi; Ológbò jókòó; Ọ̀kan ẹ̀
ʻŌlelo Hawaiʻi; ʼn ŉ
emoji 🎬🐈‍⬛ 👩🏽‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️ ☕️ 1️⃣
maths 𝒜𝔅ℂ x² H₂O ⅓ № ㎏ ㏒ ﬁ ﬂ ﬀ ﬃ ﬄ ﬅ ﬆ Ĳ ĳ ǆ ǅ Ǆ ǉ ǈ Ǉ ǌ ǋ Ǌ ǳ ǲ Ǳ
e\u0301 A\u030a o\u0302\u0301 \u1e9b\u0323 \u212b \u2126 \u0958 \u2adc \ufb1f \u0344 q\u0307\u0323
zero\u200bwidth\u200cjoiner\u200d soft\u00adhyphen bom\ufeff word\u2060joiner left\u200eright\u200f
thin\u2009space\u00a0nbsp\u202fnarrow\u3000wide\u1680ogham\u2003em\u205fmath
tab\tnew\nline\r\nwindows\rmac\u2028ls\u2029ps\x0bvt\x0cff\x85nel\x1cfs\x1dgs\x1ers\x1fus
bell\x07 escape\x1b[31mred\x1b[0m \x1b[ \x1b[1;2m \x1b[1;2 \x1b[٣m del\x7f nul-ish\x01\x02
c1 \x80 \x81 \x82 \x85 \x8d \x91\x92\x93\x94 \x96 \x99 \x9f
interlinear\ufff9a\ufffab\ufffbc object\ufffc arabic\u206a\u206f tag\U000e0041
   leading and trailing   \n\n
a  b   c    d
-
&
""".strip("\n").split("\n")

MARKUP = """
&amp; &lt; &gt; &quot; &apos; &nbsp; &copy; &reg; &hellip; &mdash; &eacute; &Eacute; &EACUTE; &NTILDE; &nTILDE;
&amp &lt &gt &quot &apos &nbsp &copy &reg &hellip &mdash &eacute &Eacute
&amp;amp; &amp;amp;amp; &amp;amp;amp;amp; &amp;lt;b&amp;gt; &#38;amp; &#38;#38;amp;
this&not that &notit; &notin; &notinva &ampere &ampere; &copyright &copy2; AT&T R&D Q&A a&b
&SZLIG; &szlig; &OELIG; &AMP; &LT; &GT; &QUOT; &COPY; &REG; &HELLIP; &MDASH; &FRAC12; &frac12; &FFILIG; &NAPOS;
&ALPHA; &alpha; &Alpha; &BETA; &SUP2; &sup2; &THETASYM; &EURO; &euro; &POUND; &YEN; &DEG;
&checkmark; &Jscr; &HilbertSpace; &CounterClockwiseContourIntegral; &NotEqualTilde; &fjlig; &bne; &Tab;x&NewLine;y
&#65; &#65 &#x41; &#x41 &#X41; &#0; &#128; &#x80; &#x81; &#x9f; &#150; &#xD800; &#55296; &#x110000; &#99999999999999999;
&#1; &#11; &#13; &#10; &#127; &#xFDD0; &#xFFFE; &#x1FFFF; &#xFEFF; &#x3000; &#8217; &#xff21; &#59; &#38; &#60;b&#62;
&#; &#x; &#xg; &; && &a &ab &abc; &unknown; &amp;unknown; &#12ab; &#x41z; &#65a;
<b>bold &amp; &lt;i&gt;</b> &EACUTE; &eacute;
first &EACUTE; line &amp;amp;\nsecond < line &EACUTE; &amp;amp;\nthird &EACUTE; line &amp;amp;
&EACUTE;\r&EACUTE; < \r\n &EACUTE;
&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &#39;quoted&#39; &#x27;too&#x27;
x &lt y &amp z; a&ltb a&lt;b &gtc &gt;c &quotd &quot;d
&para; &para &parallel &parallel; &sect &section &times &timesbar; &timesbar &yen &yenn &cent; &cent &centerdot &centerdot;
&abcdefghijklmnopqrstuvwxyz; &ABCDEFGHIJKLMNOPQRSTUVWX; &abcdefghijklmnopqrstuvwxyzabcdefghijkl;
&ＡＭＰ； ＆amp； ＆ａｍｐ； ＆amp; &am\u200bp; &am\x01p; &\x1b[0mamp;
&eacute;&#769; e&#769; &#x1100;&#x1161; &#65377; &#xFB01; &ffilig; &ldquo;&rdquo; &lsquo;&rsquo;
&aring; &Aring; &ARING; &angst; &ohm; &OHM; &micro; &MICRO; &dotlessi; &imath; &IMATH; &sigmaf; &SIGMAF;
""".strip("\n").split("\n")

MISREAD = ["Ã©tÃ© Ã  Paris", "donâ€™t", "â€œquotedâ€\x9d", "cafÃ©", "æ—¥æœ¬èªž", "ÐšÐ¾ÑˆÐºÐ°", "Ã¼ber", "ä¸€åªçŒ«", "lost \ufffd one", "ðŸŽ¬"]


def raw(text):
    """The escapes written above; other backslashes there are none."""
    return re.sub(r"\\(u[0-9a-f]{4}|U[0-9a-f]{8}|x[0-9a-f]{2}|[ntr])",
                  lambda m: m.group(0).encode().decode("unicode-escape"), text)


def expected(text, **how):
    text = html.unescape(html.unescape(ftfy.fix_text(text, **how))).strip()
    return re.sub(r"\s+", " ", text).strip()


cases = []
for line in ORDINARY + MARKUP:
    for text in sorted({line, raw(line)}):
        if expected(text) != expected(text, fix_encoding=False):
            print("ftfy repairs:", repr(text))
        cases.append([text, expected(text, fix_encoding=False), None if "\x80" in text else "\ufffd" in text])
for text in MISREAD:
    assert expected(text) != expected(text, fix_encoding=False) or "\ufffd" in text, text
    cases.append([text, expected(text, fix_encoding=False), True])
for name in sorted(html.entities.html5)[::31]:
    text = "a&" + name + "b &" + name.upper() + " c"
    cases.append([text, expected(text, fix_encoding=False), None])
for first in range(0xff00, 0xfff0, 24):
    text = "x" + "".join(chr(c) for c in range(first, first + 24) if c < 0xfff0)
    cases.append([text, expected(text, fix_encoding=False), None])
random.seed(3)
pieces = "".join(raw(x) for x in ORDINARY + MARKUP).split() + ["\n", "\r\n", " ", "\u3000", "<", "&", "\x1b[1m", "\u2029"]
while len(cases) < 420:
    text = "".join(random.choice(pieces) + random.choice(["", "", " ", "&", ";", "\n"]) for _ in range(12))
    if random.random() < 0.3:
        text = unicodedata.normalize("NFD", text)
    cases.append([text, expected(text, fix_encoding=False), None])
with open(f"{sys.argv[1]}/clean.json", "w", encoding="ascii") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(len(cases), "cases")

"""What is not markup is text: to the browser, and to the templates that fill the page's components."""

from html.parser import HTMLParser

from betahead.explore.markup import filled, told
from betahead.report.html import element

HOSTILE = "<script>alert(1)</script>\"' ${alert(1)} {{constructor}} `x` \x00\x1b\ud800 & é 雨"


class Read(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read(html):
    parser = Read()
    parser.feed(html)
    parser.close()
    return parser


def test_hostile_text_is_read_back_as_text_and_nothing_of_it_is_a_tag():
    shown = HOSTILE.replace("\x00", "�").replace("\x1b", "�").replace("\ud800", "�")
    page = read(filled(element("p", HOSTILE, title=HOSTILE)))
    assert page.tags == [("p", {"title": shown})]
    assert page.text == shown


def test_nothing_is_left_that_begins_a_program_of_a_template():
    assert not set("${}`") & set(filled(element("p", HOSTILE, title=HOSTILE)))


def test_a_sentence_in_a_box_is_escaped_too():
    assert told("mistake", "<x> must be …") == '<p class="told mistake" role="status">&lt;x&gt; must be …</p>'

"""First uses of terms: once, in prose only, abbreviations by their capitals."""

import sys
from pathlib import Path

import pytest
from docutils import nodes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

import glossary_links as links

TERMS = {
    "PGD": links.Term("term-PGD", 'Steps, each "projected".'),
    "EOT": links.Term("term-EOT", "Averaged gradients."),
    "saliency map": links.Term("term-saliency-map", "A value per pixel."),
    "pass": links.Term("term-pass", "One image through a network."),
}


def page(*children):
    return nodes.container("", *children)


def found(tree):
    links.link_first_uses(tree, TERMS, "notation.html")
    return [raw.astext() for raw in tree.findall(nodes.raw)]


def paragraph(text):
    return nodes.paragraph("", "", nodes.Text(text))


def test_only_the_first_use_is_linked_and_the_text_stays():
    tree = page(paragraph("By PGD, then PGD."), paragraph("PGD again."))
    (link,) = found(tree)
    assert ">PGD</a>" in link and 'href="notation.html#term-PGD"' in link
    assert "Steps, each &quot;projected&quot;." in link
    assert tree.children[0].children[0].astext() == "By "
    assert tree.children[1].astext() == "PGD again."


@pytest.mark.parametrize(
    "text",
    ["an eot", "attackers pass by", "PGD-like", "rePGD", "saliency  mapping"],
)
def test_what_only_looks_like_a_term_is_left(text):
    assert found(page(paragraph(text))) == []


@pytest.mark.parametrize("text", ["Saliency maps differ", "a saliency map", "Two PGDs"])
def test_plurals_and_capitals_at_the_start_are_terms(text):
    assert len(found(page(paragraph(text)))) == 1


def test_headings_code_and_links_are_left_and_an_authors_link_is_the_first_use():
    inside = [
        nodes.title("", "", nodes.Text("PGD")),
        nodes.paragraph("", "", nodes.literal("", "PGD")),
        nodes.paragraph("", "", nodes.reference("", "PGD", refuri="http://there/")),
    ]
    assert found(page(*inside)) == []
    own = nodes.reference("", "one pass", refuri="notation.html#term-pass")
    (link,) = found(page(nodes.paragraph("", "", own), paragraph("a pass")))
    assert "one pass" in link and 'class="pm-term"' in link

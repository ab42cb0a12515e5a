"""What the user may write in `tests/*.yaml`: how its page in the docs begins, and the models behind it."""

from __future__ import annotations

from typing import Final

from cdp_stream.config.cases import (
    Case,
    CaseFile,
    Expected,
    ExpectedAudienceChange,
    ExpectedDeadLetter,
    ExpectedMessage,
    ExpectedProfile,
    ExpectedTraitChange,
    Given,
    Records,
)
from cdp_stream.config.schema import Page

TESTS_PAGE: Final = Page(
    "cdp-stream tests of a topology",
    """\
# Config tests

A topology's folder may hold `tests/*.yaml`: given these events, at this instant, expect these profiles, traits, audience
changes and messages. `cdp-stream test topologies/ecommerce` runs them in this process, without a broker, on the code
that the workers run. This page is made from the models by `cdp-stream schema --of tests --docs docs/config-tests.md`.

```yaml
# yaml-language-server: $schema=../../tests.schema.json
tests:
  - name: A cart without an order, until there is one
    given:
      - {at: 2026-03-01T10:00:00Z, type: track, anonymousId: a1, event: Product Added, properties: {product: mug}}
    expect:
      profiles:
        anonymous_id:a1: {audiences: [cart_no_order], traits: {last_product: mug}}
      destinations:
        ads:
          - {type: track, event: Audience Entered, anonymousId: a1, properties: {audience_key: cart_no_order}}
    then:
      - given:
          - {at: +2h, type: track, anonymousId: a1, event: Order Completed, properties: {revenue: 12.5}}
        expect:
          audience_changes:
            - {profile: anonymous_id:a1, audience_key: cart_no_order, change: exited, time: 2026-03-01T12:00:00Z}
```

- Each test begins with an empty space. Its steps (the test itself, then those under `then`) follow one another: events
  arrive, the clock is moved to `at`, whatever is due by then happens, and `expect` is looked at. The first step that
  does not end as expected ends its test.
- Events are written as in their source topic (the Segment tracking spec), with two keys of the test's own: `at`, when it
  arrives, and `source`. Instants are ISO-8601; `+30m`, `+12h`, `+30d` is that long after the instant before.
- What is not named is not looked at. Of mappings (`traits`, `properties`, `context` …) the named keys count; `null` means
  that there is none. Numbers count by their value: 600 is 600.0.
- `trait_changes`, `audience_changes` and each destination hold what was written since the step before. A list is all of
  it: `[]` means nothing. To look at a part, write `{contains: […], lacks: […]}`. Records of one profile (of one user id
  or anonymous id, in destinations) are expected in their order, those of different profiles in any.
- A record that cannot be used fails its step, unless `dead_letters` expects it.

A failure shows what was expected (`-`) beside what there is (`+`), and what is as it should be. With 13:00 expected above:

```
  FAIL  A cart without an order, until there is one
        tests[0].then[0], at 2026-03-01T12:00:00.000Z
        expect.audience_changes
          - {"profile":"anonymous_id:a1","audience_key":"cart_no_order","change":"exited","time":"2026-03-01T13:00:00Z"}
          + {"profile":"anonymous_id:a1","audience_key":"cart_no_order","change":"exited","time":"2026-03-01T12:00:00.000Z"}
```

Exit codes: 0 every test holds, 1 one fails, 2 there is none, 3 the topology or a file of tests is invalid (each problem
names file, path, the wrong value and the nearest right one). `--only TEXT` picks tests by name, `--json` is for programs.
""",
    (
        ("The file", CaseFile),
        ("`tests[]`, and the steps under `then[]` without a name", Case),
        ("`given[]`", Given),
        ("`expect`", Expected),
        ("`expect.profiles.<type:value>`", ExpectedProfile),
        ("`trait_changes`, `audience_changes`, `destinations.<name>`, `dead_letters`", Records),
        ("`trait_changes[]`", ExpectedTraitChange),
        ("`audience_changes[]`", ExpectedAudienceChange),
        ("`destinations.<name>[]`", ExpectedMessage),
        ("`dead_letters[]`", ExpectedDeadLetter),
    ),
)

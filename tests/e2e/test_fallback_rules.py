"""The rules of the fallback policy that concern what both origins are asked and what is delivered, on the shapes that a bucket's
website and a WordPress have (spec/fallback.md 6, 7, 9 - 11, 16, 17), and the list of all rules with the tests that show them."""
import glob
import os
import re
import threading

import pytest

from rig import ROOT, route
from test_fallback import NOT_FOUND, two

# Section, rule: tests (names in tests/e2e, or unit tests: files of src/filters/fallback).
RULES = {
    "2 a hit is delivered as it came, nobody else is asked": ["test_a_hit_does_not_touch_the_fallback", "test_the_winners_bytes_and_fields_are_its_own"],
    "2 redirects, 304, 206, 412, 416 of the primary are hits": ["test_a_hit_does_not_touch_the_fallback", "test_a_buckets_own_answers_are_hits"],
    "3 404 triggers, 403 only when told, 410 and 5xx never": ["test_a_hit_does_not_touch_the_fallback", "test_the_s3_preset_takes_a_403_for_a_miss"],
    "3 the fallback wins with any status but its 404": ["test_on_a_miss_whatever_the_fallback_says_wins_but_its_404", "test_a_304_of_the_fallback_wins"],
    "3 nothing of the loser leaks": ["test_the_winners_bytes_and_fields_are_its_own", "schedule_test.c"],
    "3 Location is rewritten only when told": ["test_on_a_miss_whatever_the_fallback_says_wins_but_its_404", "test_the_fallback_may_want_another_host"],
    "4 both miss: the held page, whole": ["test_both_miss_is_the_held_page_whole", "test_however_little_is_held_the_page_is_whole"],
    "4 a 410 of the fallback wins": ["test_on_a_miss_whatever_the_fallback_says_wins_but_its_404"],
    "5 HEAD": ["test_head_is_asked_of_both_and_keeps_the_length", "test_a_bucket_whose_head_of_a_miss_is_another", "test_head_has_a_length_and_no_body"],
    "6 conditions go to both unchanged": ["test_a_304_of_the_fallback_wins", "test_conditions_are_asked_of_both"],
    "6 a 404 is never turned into a 304": ["test_a_404_stays_one_whatever_its_validators"],
    "6 ignore_if_modified_since": ["test_ignore_if_modified_since_keeps_it_from_the_primary_only"],
    "7 ranges go to both, 206 and 416 of either": ["test_ranges_are_asked_of_both", "test_a_buckets_own_answers_are_hits"],
    "7 a held page ignores the range": ["test_a_404_stays_one_whatever_its_validators"],
    "8 other methods go to the fallback alone": ["test_other_methods_go_to_the_fallback_alone", "test_a_method_may_have_its_own_rule"],
    "8 a direct body streams with its framing": ["test_direct_streams_the_body_with_its_framing", "test_direct_sends_the_first_bytes_while_the_client_still_sends"],
    "8 Expect": ["test_expect_is_forwarded_and_the_fallbacks_100_relayed", "test_a_silent_fallback_does_not_keep_a_client_from_sending",
                 "test_expect_never_reaches_the_primary", "test_an_expect_without_a_body_reaches_neither"],
    "8 a body tried on the primary reaches the fallback whole, or not at all": [
        "test_the_fallback_gets_every_byte_or_is_not_asked", "test_a_cut_body_reaches_no_fallback", "test_a_chunked_body_that_outgrows_the_spool_leaves_the_primary",
        "test_a_length_beyond_the_spool_goes_to_the_fallback_at_once", "test_a_client_leaves_before_the_end_of_its_body", "schedule_test.c"],
    "8 never twice": ["test_a_lost_post_is_not_sent_again", "schedule_test.c"],
    "9 repeated headers, in order, both ways": ["test_repeated_fields_stay_in_order_and_number", "test_a_login_sets_four_cookies"],
    "9 both get the same target, fields and request id": ["test_on_a_miss_whatever_the_fallback_says_wins_but_its_404", "test_both_are_asked_the_same"],
    "9 Host": ["test_a_route_that_rewrites_the_host_does_so_for_the_primary_only", "test_the_fallback_may_want_another_host"],
    "9 X-Forwarded-*": ["test_forwarding_fields_tell_the_truth", "test_tls_on_both_sides_with_verification"],
    "9 hop-by-hop fields go no further": ["test_fields_of_the_connection_go_no_further"],
    "9 an override by cookie or header is private": ["test_an_answer_chosen_by_a_cookie_is_private", "test_override_kinds"],
    "10 nothing is recoded": ["test_codings_pass_as_they_are"],
    "10 framing": ["test_each_framing_of_the_winner", "test_trailers_both_ways", "test_the_held_pages_trailers_pass"],
    "11 the target goes through byte for byte": ["test_targets_reach_both_as_the_client_wrote_them", "test_normalisation_is_for_both"],
    "11 an alias host is a 404 like any other": ["test_an_alias_that_the_bucket_does_not_know_is_redirected"],
    "12 override": ["test_the_override_asks_the_fallback_alone", "test_what_only_looks_like_the_override_is_none", "test_override_kinds",
                    "test_override_by_query_and_by_cookie_crumbs"],
    "13 asked at the head, decided at the head": ["test_the_fallback_is_asked_as_soon_as_the_head_is_there", "turn_test.c"],
    "13 what is held, and how much": ["test_however_little_is_held_the_page_is_whole", "test_held_answers_cost_little_and_none_is_lost"],
    "13 drained or dropped": ["test_forty_both_misses_cost_two_connections_to_each", "test_forty_misses_cost_two_connections_to_each",
                              "test_a_loser_of_unknown_size_is_drained_or_dropped_in_time"],
    "13 the fallback's page streams": ["test_the_fallbacks_page_streams", "test_50_mb_through_the_fallback_grow_nothing", "turn_test.c",
                                       "test_a_stream_that_is_not_read_stops_the_fallback_and_nobody_else"],
    "13 a client that leaves ends both": ["test_a_client_leaves_a_get", "test_a_client_leaves_a_direct_request", "test_an_http2_client_resets_one_stream",
                                          "test_a_client_that_only_ends_its_side_may_be_gone", "test_a_client_that_ended_its_side_and_then_resets_is_gone"],
    "13 a client that ends its side is answered": ["test_a_client_that_ended_its_side_gets_its_answer",
                                                   "test_a_client_that_ended_its_side_waits_as_long_as_others"],
    "13 a cut answer is visible": ["test_a_fallback_that_breaks_off_is_visible", "schedule_test.c"],
    "14 faults of the primary": ["test_a_primary_that_refuses_is_a_503_at_once", "test_a_primary_that_fails_is_told_as_the_router_does",
                                 "test_a_primary_that_fails_while_the_fallback_may_help"],
    "14 faults of the fallback": ["test_a_fallback_that_fails_degrades_to_the_held_page", "test_a_fallback_that_refuses_degrades",
                                  "test_a_silent_fallback_degrades_after_header_timeout_and_long_bodies_live_on", "test_a_maintenance_page_is_seen"],
    "14 a fallback that does not read": ["test_a_fallback_that_does_not_take_the_kept_body_is_silent", "test_the_next_fallback_gets_what_the_first_does_not_take",
                                         "test_a_fallback_asked_alone_that_does_not_take_the_body_ends_with_the_idle_stream"],
    "14 both": ["test_both_origins_fail_in_every_way_while_an_answer_is_held", "test_a_fallback_that_refuses_or_stalls_while_the_page_fails"],
    "14 degraded answers": ["test_degraded_status_and_errors_are_configurable"],
    "14 shields": ["test_max_inflight_queues_and_then_degrades", "test_the_breaker_spares_a_dead_fallback", "test_the_loop_guard"],
    "15 upgrades": ["test_a_websocket_goes_to_the_fallback_and_both_directions_are_raw", "test_an_upgrade_that_is_not_configured_is_an_ordinary_request",
                    "test_a_refused_upgrade_is_delivered"],
    "15 interim answers": ["test_interim_answers_never_reach_the_final_one"],
    "16 HTTP/1.0": ["test_an_http_1_0_client"],
    "16 HTTP/1.1, pipelined": ["test_pipelined_requests_are_answered_in_order"],
    "16 HTTP/2": ["test_hit_miss_and_both_miss", "test_many_streams_at_once_one_of_them_reset"],
    "16 many at once": ["test_no_answer_reaches_another_request"],
    "17 requests and connections": ["test_n_requests_cost_n_requests", "test_forty_both_misses_cost_two_connections_to_each"],
    "18 TRUST": ["test_trust_asks_the_fallback_first_for_a_known_miss", "test_trust_spares_the_fallback_what_neither_has", "test_what_is_not_remembered",
                 "test_forget_drops_a_prefix", "tables_test.c"],
    "19 HINT and hedges": ["test_a_hint_asks_both_at_once_and_never_serves_anything_stale", "test_a_hedge_is_sent_when_the_primary_is_slow",
                           "test_hints_stop_when_too_many_were_wrong", "test_a_hint_with_two_fallbacks"],
    "20 marks": ["test_marks"],
    "21 seeing": ["test_numbers", "test_top_lists_what_the_fallback_still_serves", "test_access_log_operators"],
    "22 configuration": ["test_mistakes_are_told_with_their_place", "test_a_route_may_replace_single_fields", "test_every_field_of_the_filter_is_on_the_page"],
    "23 without YAML": ["test_a_url_as_primary", "test_a_folder_as_primary", "test_a_dynamic_primary_is_tried_with_every_method", "test_the_probe_tells_what_follows",
                        "test_the_probe_asks_over_tls_and_verifies", "test_convert_prints_what_run_would_serve"],
}


def test_every_rule_has_a_test():
    have = {os.path.basename(p) for p in glob.glob(os.path.join(ROOT, "src/filters/fallback/*_test.c"))}
    for p in glob.glob(os.path.join(ROOT, "tests/e2e/test_*.py")):
        with open(p) as f:
            have |= set(re.findall(r"^def (test_\w+)", f.read(), re.M))
    missing = {t for tests in RULES.values() for t in tests} - have
    assert not missing
    assert {int(rule.split()[0]) for rule in RULES} == set(range(2, 24))


def both(c, static, wp, target, *fields, p=NOT_FOUND, f="HTTP/1.1 200 OK\nContent-Length: 2\n\nok", method="GET", host="example.com"):
    """(answer, what the primary saw, what the fallback saw)"""
    c.tx("%s %s HTTP/1.1\nHost: %s\n%s\n" % (method, target, host, "".join(x + "\n" for x in fields)))
    a = static.rx("%s %s HTTP/1.1" % (method, target))
    static.tx(p)
    b = None
    if f:
        b = wp.rx("%s %s HTTP/1.1" % (method, target))
        wp.tx(f)
    return c.rx(), a, b


# 2, 5, 6, 7: what buckets say

@pytest.mark.parametrize("answer", [
    "302 Found\nLocation: /dir/\nContent-Length: 0\n\n", "304 Not Modified\nETag: \"e\"\n\n", "412 Precondition Failed\nContent-Length: 3\n\npre",
    "206 Partial Content\nContent-Range: bytes 0-2/9\nContent-Length: 3\n\nabc", "416 Range Not Satisfiable\nContent-Range: bytes */9\nContent-Length: 0\n\n"],
    ids=lambda a: a[:3])
def test_a_buckets_own_answers_are_hits(rig, answer):
    g, static, wp = two(rig)
    a, _, _ = both(g.client(), static, wp, "/dir", "Range: bytes=0-2", 'If-Match: "x"', p="HTTP/1.1 " + answer, f=None)
    assert a.status == int(answer[:3])
    assert a.headers.get("location") == ("/dir/" if a.status == 302 else None)
    assert ("content-range" in a.headers) == (a.status in (206, 416))
    wp.untouched(0.05)


def test_the_winners_bytes_and_fields_are_its_own(rig):
    g, static, wp = two(rig)
    c = g.client()
    body = "".join(chr(33 + i % 90) for i in range(5000))
    mine = "ETag: W/\"a\"\nLast-Modified: x\nCache-Control: max-age=1\nAccept-Ranges: bytes\nSet-Cookie: %s=1\nLink: <%s>\nX-Garage-Error: %s\nVary: %s\n"
    for p, f, winner in (("404", "200", "f"), ("404", "404", "p"), ("200", None, "p")):
        a, _, _ = both(c, static, wp, "/x", p="HTTP/1.1 %s X\n%sContent-Length: 5000\n\n%s" % (p, mine.replace("%s", "p"), body),
                       f=f and "HTTP/1.1 %s X\n%sContent-Length: 5000\n\n%s" % (f, mine.replace("%s", "f"), body[::-1]))
        assert a.body.decode() == (body if winner == "p" else body[::-1])
        for name in ("etag", "last-modified", "cache-control", "accept-ranges", "set-cookie", "link", "x-garage-error", "vary"):
            value = a.headers.get(name)
            assert value and ("f" if winner == "p" else "p") not in value.replace("private", "").replace("max-age", ""), (name, value)


def test_a_bucket_whose_head_of_a_miss_is_another(rig):
    """garage sends the error document's header on GET and a bare one on HEAD."""
    g, static, wp = two(rig)
    c = g.client()
    a, _, _ = both(c, static, wp, "/x", method="HEAD", p="HTTP/1.1 404 Not Found\nContent-Length: 120\n\n", f="HTTP/1.1 404 Not Found\nContent-Length: 41000\n\n")
    assert a == (404, b"") and a.headers.get("content-length") == "120" and "etag" not in a.headers
    a, _, _ = both(c, static, wp, "/x", p="HTTP/1.1 404 Not Found\nETag: \"e\"\nContent-Length: 3\n\np40", f="HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
    assert a == (404, b"p40") and a.headers.get("etag") == '"e"'
    assert static.conns == 1 and wp.conns == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("field", ['If-None-Match: "a", W/"b"', "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT", 'If-Match: *', "If-Unmodified-Since: x"])
def test_conditions_are_asked_of_both(rig, method, field):
    g, static, wp = two(rig)
    name, _, value = field.partition(": ")
    p = "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n"
    for status in ("304 Not Modified", "412 Precondition Failed", "200 OK"):
        a, x, y = both(g.client(), static, wp, "/feed", field, method=method, p=p, f="HTTP/1.1 %s\nETag: \"f\"\n%s\n" % (
            status, "" if status.startswith("304") else "Content-Length: 0\n"))
        assert x.headers.get(name) == value == y.headers.get(name)
        assert a.status == int(status[:3]) and a.headers.get("etag") == '"f"'


def test_a_404_stays_one_whatever_its_validators(rig):
    g, static, wp = two(rig)
    a, _, _ = both(g.client(), static, wp, "/gone", 'If-None-Match: "p404"', "If-Modified-Since: Tue, 24 Nov 2026 09:00:00 GMT", "Range: bytes=0-1",
                   f="HTTP/1.1 404 Not Found\nETag: \"w\"\nContent-Length: 2\n\nno")
    assert a == (404, b"not here\n") and a.headers.get("etag") == '"p404"' and "content-range" not in a.headers


def test_ranges_are_asked_of_both(rig):
    g, static, wp = two(rig)
    c = g.client()
    for answer in ("206 Partial Content\nContent-Range: bytes 2-4/9\nContent-Length: 3", "416 Range Not Satisfiable\nContent-Range: bytes */9\nContent-Length: 3",
                   "200 OK\nContent-Length: 3"):
        a, x, y = both(c, static, wp, "/upload.mp4", "Range: bytes=2-4", 'If-Range: "v"', f="HTTP/1.1 %s\n\nabc" % answer)
        assert x.headers.get("range") == y.headers.get("range") == "bytes=2-4" and x.headers.get("if-range") == y.headers.get("if-range") == '"v"'
        assert a == (int(answer[:3]), b"abc") and ("content-range" in a.headers) == (a.status != 200)


# 9: fields

def test_repeated_fields_stay_in_order_and_number(rig):
    g, static, wp = two(rig)
    c = g.client()
    for f in (None, "404 Not Found", "200 OK"):
        asked = ["Accept-Language: de", "X-Any: 1", "Accept-Language: en;q=0.5", "X-Any: 2", "X-Any: 1"]
        out = "Set-Cookie: a=1; Path=/\nLink: <1>\nX-Many: b\nSet-Cookie: b=2\nLink: <2>\nX-Many: a\nSet-Cookie: a=1; Path=/\nContent-Length: 0\n\n"
        a, x, y = both(c, static, wp, "/x", *asked, p="HTTP/1.1 %s\n%s" % ("200 OK" if f is None else "404 No", out), f=f and "HTTP/1.1 %s\n%s" % (f, out))
        for r in filter(None, (x, y)):
            assert r.headers.all("accept-language") == ["de", "en;q=0.5"] and r.headers.all("x-any") == ["1", "2", "1"]
        assert a.headers.all("set-cookie") == ["a=1; Path=/", "b=2", "a=1; Path=/"]
        assert a.headers.all("link") == ["<1>", "<2>"] and a.headers.all("x-many") == ["b", "a"]


def test_a_login_sets_four_cookies(rig):
    g, static, wp = two(rig)
    c = g.client()
    form = "log=a&pwd=b"
    c.tx("POST /wp-login.php HTTP/1.1\nHost: example.com\nContent-Type: application/x-www-form-urlencoded\nCookie: wordpress_test_cookie=1\n"
         "Content-Length: %d\n\n%s" % (len(form), form))
    r = wp.rx("POST /wp-login.php")
    assert r.body.decode() == form and r.headers.get("cookie") == "wordpress_test_cookie=1"
    cookies = ["wordpress_test_cookie=1; path=/", "wordpress_sec_x=a%7C1; path=/wp-content/plugins; HttpOnly", "wordpress_sec_x=a%7C1; path=/wp-admin; HttpOnly",
               "wordpress_logged_in_x=a; path=/; HttpOnly"]
    wp.tx("HTTP/1.1 302 Found\n%sLocation: http://example.com/wp-admin/\nContent-Length: 0\n\n" % "".join("Set-Cookie: %s\n" % x for x in cookies))
    a = c.rx()
    assert a.status == 302 and a.headers.all("set-cookie") == cookies and a.headers.get("location") == "http://example.com/wp-admin/"
    static.untouched(0.05)


def test_how_long_the_router_waits_is_told_to_the_primary_only(rig):
    g, static, wp = two(rig, routes=[route("/", {"cluster": "static", "timeout": "7s"})])
    _, x, y = both(g.client(), static, wp, "/a")
    assert x.headers.get("x-envoy-expected-rq-timeout-ms") == "7000" and "x-envoy-expected-rq-timeout-ms" not in y.headers


def test_both_are_asked_the_same(rig):
    g, static, wp = two(rig)
    _, x, y = both(g.client(), static, wp, "/a?b=c&b=d", "User-Agent: me", "X-B: 2", "Accept: */*", "Cookie: a=b; c=d", "Authorization: Basic eA==", "DNT: 1")
    drop = {"x-envoy-expected-rq-timeout-ms", "x-forwarded-host"}
    assert [h for h in x.headers if h[0].lower() not in drop] == [h for h in y.headers if h[0].lower() not in drop]
    assert x.line == y.line and x.headers.get("x-request-id")


@pytest.mark.parametrize("trusted", [False, True])
def test_forwarding_fields_tell_the_truth(rig, trusted):
    hcm = {"use_remote_address": True, "xff_num_trusted_hops": 1 if trusted else 0}
    g, static, wp = two(rig, hcm_over=hcm)
    c = g.client()
    asked = ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example"]
    _, x, y = both(c, static, wp, "/x", *asked)
    c.tx("GET /x?wp=1 HTTP/1.1\nHost: example.com\n%s\n" % "".join(f + "\n" for f in asked))
    z = wp.answer("GET /x?wp=1")
    for r in (x, y, z):
        assert r.headers.get("x-forwarded-for") == "192.0.2.9,127.0.0.1"  # once for this hop, not once more for the fallback
        assert r.headers.get("x-forwarded-proto") == ("https" if trusted else "http")
    for r in (y, z):
        assert r.headers.get("x-forwarded-host") == ("evil.example" if trusted else "example.com")


def test_fields_of_the_connection_go_no_further(rig):
    g, static, wp = two(rig)
    c = g.client()
    out = "Connection: X-Mine, keep-alive\nX-Mine: 1\nKeep-Alive: timeout=5\nProxy-Connection: x\nX-Other: 2\nContent-Length: 0\n\n"
    for f in (None, "200 OK", "404 No"):
        a, x, y = both(c, static, wp, "/x", "Connection: X-Secret, keep-alive", "X-Secret: 1", "Keep-Alive: 5", "Proxy-Connection: x", "TE: gzip", "X-Public: 1",
                       p="HTTP/1.1 %s\n%s" % ("200 OK" if f is None else "404 No", out), f=f and "HTTP/1.1 %s\n%s" % (f, out))
        for r in filter(None, (x, y)):
            for name in ("x-secret", "keep-alive", "proxy-connection", "te", "upgrade", "via"):
                assert name not in r.headers, name
            assert r.headers.get("x-public") == "1"
        assert a.headers.get("x-other") == "2"
        for name in ("x-mine", "keep-alive", "proxy-connection", "via"):
            assert name not in a.headers, name


# 10: codings and framing

def test_codings_pass_as_they_are(rig):
    g, static, wp = two(rig)
    c = g.client()
    packed = b"\x1f\x8b\x08\x00not really gzip\x00\xff"
    for fields in ((), ("Accept-Encoding: gzip, br",)):
        wire = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\nETag: \"strong\"\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        a, x, y = both(c, static, wp, "/feed/", *fields, p=b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", f=b"HTTP/1.1 200 OK\r\n" + wire)
        for r in (x, y):
            assert r.headers.get("accept-encoding") == ("gzip, br" if fields else None)
        assert a.body == packed and a.headers.get("etag") == '"strong"' and a.headers.get("content-encoding") == "gzip"


@pytest.mark.parametrize("winner", ["hit", "fallback", "held"])
@pytest.mark.parametrize("how", ["length", "chunked", "close", "empty", "204", "304"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_each_framing_of_the_winner(rig, winner, how, version):
    if how in ("204", "304") and winner == "held":
        return  # a held page is a 404
    g, static, wp = two(rig, hcm_over={"http_protocol_options": {"accept_http_10": True}})
    c = g.client()
    status = {"204": "204 No Content", "304": "304 Not Modified"}.get(how, "404 No" if winner == "held" else "200 OK")
    page = b"0123456789" * 300
    body = {"length": b"Content-Length: 3000\r\n\r\n" + page, "chunked": b"Transfer-Encoding: chunked\r\n\r\nbb8\r\n" + page + b"\r\n0\r\n\r\n",
            "close": b"\r\n" + page, "empty": b"Content-Length: 0\r\n\r\n"}.get(how, b"\r\n")
    wire = b"HTTP/1.1 " + status.encode() + b"\r\n" + body
    c.tx("GET /x HTTP/%s\nHost: example.com\n\n" % version)
    static.rx("GET /x")
    static.tx(wire if winner != "fallback" else "HTTP/1.1 404 No\nContent-Length: 0\n\n")
    if how == "close" and winner != "fallback":
        static.open.remove(static.last)
        static.last.close()
    if winner != "hit":
        wp.rx("GET /x")
        wp.tx(wire if winner == "fallback" else "HTTP/1.1 404 No\nContent-Length: 0\n\n")
        if how == "close" and winner == "fallback":
            wp.open.remove(wp.last)
            wp.last.close()
    a = c.rx()
    assert a.status == int(status[:3])
    assert a.body == (page if how in ("length", "chunked", "close") else b"")
    if a.body:
        assert a.framing == ("length" if how == "length" else "chunked" if version == "1.1" else "close")
    if how in ("204", "304"):
        assert "transfer-encoding" not in a.headers


# 11: targets

TARGETS = ["/a%2Fb", "/%c3%a4", "/%C3%84", "/a+b", "/a;b=c", "//a//b", "/a/./b/../c", "/%7Euser", "/?a=1&a=2&&a", "/p?q=%20+%26", "/x?" + "q" * 7000, "/%",
           "/a%00b", "/index.php?p=1;2", "/wp-json/wp/v2/posts?per_page=1&_fields[]=id", "/caf%e9", "/a?b?c=d", "/*"]


def test_targets_reach_both_as_the_client_wrote_them(rig):
    g, static, wp = two(rig)
    c = g.client()
    for target in TARGETS:
        a, x, y = both(c, static, wp, target)
        assert x.target == y.target == target and a == (200, b"ok")


def test_normalisation_is_for_both(rig):
    g, static, wp = two(rig, hcm_over={"normalize_path": True, "merge_slashes": True})
    c = g.client()
    for target, now in (("//a//b/../c?x=//", "/a/c?x=//"), ("/a/./b", "/a/b")):
        c.get(target)
        assert static.rx().target == now
        static.tx(NOT_FOUND)
        assert wp.rx().target == now
        wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
        assert c.rx().status == 200


def test_an_alias_that_the_bucket_does_not_know_is_redirected(rig):
    g, static, wp = two(rig)
    a, x, y = both(g.client(), static, wp, "/about/", host="www.example.com", p="HTTP/1.1 404 Not Found\nContent-Length: 0\n\n",
                   f="HTTP/1.1 301 Moved Permanently\nLocation: http://example.com/about/\nX-Redirect-By: WordPress\nContent-Length: 0\n\n")
    assert x.headers.get("host") == y.headers.get("host") == "www.example.com"
    assert a.status == 301 and a.headers.get("location") == "http://example.com/about/"


# 14

def test_a_maintenance_page_is_seen(rig):
    g, static, wp = two(rig)
    a, _, _ = both(g.client(), static, wp, "/x", f="HTTP/1.1 503 Service Unavailable\nRetry-After: 600\nContent-Length: 5\n\nbrief")
    assert a == (503, b"brief") and a.headers.get("retry-after") == "600"


# 16, 17

def test_an_http_1_0_client(rig):
    g, static, wp = two(rig, hcm_over={"http_protocol_options": {"accept_http_10": True}})
    for fields, keeps in (("Host: example.com\n", False), ("Host: example.com\nConnection: keep-alive\n", True)):
        c = g.client()
        for target, p, f in (("/hit", "200 OK", None), ("/miss", "404 No", "200 OK"), ("/gone", "404 No", "404 No")):
            c.tx("GET %s HTTP/1.0\n%s\n" % (target, fields))
            static.answer("GET %s HTTP/1.1" % target, p, "p")
            if f:
                wp.answer("GET %s HTTP/1.1" % target, f, "w")
            a = c.rx()
            assert a == (404 if target == "/gone" else 200, b"w" if target == "/miss" else b"p")
            if not keeps:
                c.eof()
                c = g.client()


def test_pipelined_requests_are_answered_in_order(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(9)))
    c.methods = ["GET"] * 9
    for i in range(9):
        static.rx("GET /%d" % i)
        static.tx("HTTP/1.1 %s\nContent-Length: 2\n\np%d" % ("200 OK" if i % 3 == 0 else "404 No", i))
        if i % 3:
            wp.rx("GET /%d" % i)
            wp.tx("HTTP/1.1 %s\nContent-Length: 2\n\nw%d" % ("200 OK" if i % 3 == 1 else "404 No", i))
    for i in range(9):
        assert c.rx() == (404 if i % 3 == 2 else 200, b"%s%d" % (b"w" if i % 3 == 1 else b"p", i))


def test_no_answer_reaches_another_request(rig):
    """Eight connections, each with requests of its own, against origins that answer by what they were asked."""
    g, static, wp = two(rig)

    def serve(conn, who):
        try:
            while True:
                r = conn.rx()
                n = int(r.target[1:])
                if who == "p":
                    conn.tx("HTTP/1.1 %s\nContent-Length: %d\n\n%s" % ("200 OK" if n % 3 == 0 else "404 No", len(r.target) + 1, "p" + r.target))
                else:
                    conn.tx("HTTP/1.1 %s\nContent-Length: %d\n\n%s" % ("200 OK" if n % 3 == 1 else "404 No", len(r.target) + 1, "w" + r.target))
        except Exception:
            pass

    def accept(origin, who):
        try:
            while True:
                threading.Thread(target=serve, args=(origin.accept(5), who), daemon=True).start()
        except Exception:
            pass
    for o, who in ((static, "p"), (wp, "w")):
        threading.Thread(target=accept, args=(o, who), daemon=True).start()
    wrong = []

    def visit(k):
        c = g.client()
        for n in range(k * 1000, k * 1000 + 40):
            c.get("/%d" % n)
            a = c.rx()
            if a != (404 if n % 3 == 2 else 200, b"%s/%d" % (b"w" if n % 3 == 1 else b"p", n)):
                wrong.append((n, a))
    visitors = [threading.Thread(target=visit, args=(k,)) for k in range(8)]
    for v in visitors:
        v.start()
    for v in visitors:
        v.join()
    assert not wrong
    s = g.stats()
    assert s["cluster.static.upstream_rq_total"] == 320 and s["cluster.wp.upstream_rq_total"] == sum(n % 3 > 0 for k in range(8) for n in range(k * 1000, k * 1000 + 40))


def test_n_requests_cost_n_requests(rig):
    g, static, wp = two(rig)
    c = g.client()
    for i in range(10):
        both(c, static, wp, "/hit%d" % i, p="HTTP/1.1 200 OK\nContent-Length: 0\n\n", f=None)
    wp.untouched(0.05)
    for i in range(10):
        both(c, static, wp, "/miss%d" % i)
    for i in range(10):
        both(c, static, wp, "/gone%d" % i, f="HTTP/1.1 404 No\nContent-Length: 0\n\n")
    s = g.stats()
    assert s["cluster.static.upstream_rq_total"] == 30 and s["cluster.wp.upstream_rq_total"] == 20
    assert s["cluster.static.upstream_cx_total"] == 1 and s["cluster.wp.upstream_cx_total"] == 1

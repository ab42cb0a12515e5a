# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The walk of plain events, compiled: bytes in, the profile's change out, with ledger rows and what the graph gains.

More than nine of ten events name identifiers that are all known and together. For them the first half of the walk
comes to one line: read the record, find its owner, tell the profile. Most of the others bring identifiers that nobody
holds yet, to one profile or to none. This module does both from the raw bytes, and only when it is sure; whatever it
does not recognise at once (escaped ids, other fields, odd times, anything invalid), and whatever meets a cap or merges
profiles, it leaves to the walk in Python, which it equals byte for byte. What a limit leaves out, it asks the rooms. tests/laws/test_known_laws.py
holds it to that.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcmp, memcpy

from hashlib import blake2b

import msgspec

from cdp_stream.identity.demote import demote
from cdp_stream.model.graph import GraphProfile, Mapping
from cdp_stream.model.ids import ExternalId
from cdp_stream.stages.records import LEDGER, OutputRecord

INTERFACE = 2
"""As in `known.py`, which passes over a module of another one."""

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

DEF DEPTH_MAX = 60
DEF KEYS_MAX = 64
DEF CHANGE_BYTES_MAX = 66000
DEF IDS_MAX = 16
DEF IDS_BYTES_MAX = 12000
DEF DIGITS = 27
DEF RECORD_BYTES_MAX = 32768
DEF ID_BYTES_MAX = 500
DEF MESSAGE_ID_BYTES_MAX = 100
DEF DAY_MS = 86400000
DEF INSTANT_MAX = 253402300799999
DEF ABSENT = -1
DEF ODD = -2

cdef object _Raw = msgspec.Raw
cdef object _decode = msgspec.json.decode
cdef object _encode = msgspec.json.encode
cdef object _blake2b = blake2b
cdef object _demote = demote
cdef object _ExternalId = ExternalId
cdef object _Mapping = Mapping
cdef object _Profile = GraphProfile
cdef object _Output = OutputRecord
cdef str _LEDGER = LEDGER
cdef str _USERS = "users"
cdef const char *_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

cdef enum:
    ANDROID = 1
    IOS = 2
    LEFT = 0
    TAKEN = 1
    DUPLICATE = 2

cdef unsigned int _crc[256]


cdef void _fill_crc():
    cdef unsigned int value, number, bit
    for number in range(256):
        value = number
        for bit in range(8):
            value = (value >> 1) ^ 0xEDB88320 if value & 1 else value >> 1
        _crc[number] = value


_fill_crc()


cdef unsigned int _crc32(const char *text, Py_ssize_t size):
    cdef unsigned int value = 0xFFFFFFFF
    cdef Py_ssize_t at
    for at in range(size):
        value = _crc[(value ^ <unsigned char>text[at]) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


cdef struct Span:
    const char *start
    Py_ssize_t size


cdef struct Reading:
    # What one pass over a record tells. `odd`: leave it to the walk in Python.
    const char *at
    const char *end
    bint odd
    bint beyond_ascii
    bint canonical


cdef inline bint _is(Span text, const char *word, Py_ssize_t size):
    return text.size == size and memcmp(text.start, word, size) == 0


cdef inline void _space(Reading *reading):
    cdef char c
    while reading.at < reading.end:
        c = reading.at[0]
        if c != b' ' and c != b'\n' and c != b'\t' and c != b'\r':
            return
        reading.canonical = False
        reading.at += 1


cdef inline bint _hex(char c):
    return (b'0' <= c <= b'9') or (b'a' <= c <= b'f') or (b'A' <= c <= b'F')


cdef Span _string(Reading *reading, bint *escaped):
    """The text between quotes; escapes are checked and left as they are."""
    cdef Span span
    cdef unsigned char c
    escaped[0] = False
    reading.at += 1
    span.start = reading.at
    span.size = 0
    while reading.at < reading.end:
        c = <unsigned char>reading.at[0]
        if c == b'"':
            span.size = reading.at - span.start
            reading.at += 1
            return span
        if c < 0x20:
            break
        if c >= 0x80:
            reading.beyond_ascii = True
        elif c == b'\\':
            escaped[0] = True
            reading.canonical = False
            reading.at += 1
            if reading.at >= reading.end:
                break
            c = <unsigned char>reading.at[0]
            if c == b'u':
                if reading.end - reading.at < 5:
                    break
                if not (_hex(reading.at[1]) and _hex(reading.at[2]) and _hex(reading.at[3]) and _hex(reading.at[4])):
                    break
                if reading.at[1] == b'd' or reading.at[1] == b'D':
                    break  # perhaps half of a pair
                reading.at += 4
            elif not (c == b'"' or c == b'\\' or c == b'/' or c == b'b' or c == b'f' or c == b'n' or c == b'r'
                      or c == b't'):
                break
        reading.at += 1
    reading.odd = True
    return span


cdef void _number(Reading *reading):
    """Numbers that need a closer look are odd: exponents, and more than 18 digits."""
    cdef const char *start
    cdef Py_ssize_t whole, fraction
    cdef bint negative = False
    if reading.at[0] == b'-':
        negative = True
        reading.at += 1
    start = reading.at
    while reading.at < reading.end and b'0' <= reading.at[0] <= b'9':
        reading.at += 1
    whole = reading.at - start
    if whole == 0 or whole > 18 or (whole > 1 and start[0] == b'0'):
        reading.odd = True
        return
    if reading.at < reading.end and reading.at[0] == b'.':
        reading.at += 1
        while reading.at < reading.end and b'0' <= reading.at[0] <= b'9':
            reading.at += 1
        fraction = reading.at - start - whole - 1
        if fraction == 0 or fraction > 18:
            reading.odd = True
            return
        # The shortest text of up to 15 digits is the text itself, but for zeroes at its end.
        if whole + fraction > 15 or ((reading.at - 1)[0] == b'0' and fraction > 1):
            reading.canonical = False
        elif start[0] == b'0' and fraction > 2 and start[2] == b'0' and start[3] == b'0':
            reading.canonical = False
    elif negative and start[0] == b'0':
        reading.canonical = False
    if reading.at < reading.end and (reading.at[0] == b'e' or reading.at[0] == b'E'):
        reading.odd = True


cdef void _word(Reading *reading, const char *word, Py_ssize_t size):
    if reading.end - reading.at < size or memcmp(reading.at, word, size) != 0:
        reading.odd = True
    else:
        reading.at += size


cdef void _value(Reading *reading, int depth):
    """Pass over any value, holding it to the rules of intake."""
    cdef bint escaped
    cdef char c
    if reading.at >= reading.end or depth > DEPTH_MAX:
        reading.odd = True
        return
    c = reading.at[0]
    if c == b'"':
        _string(reading, &escaped)
    elif c == b'{':
        _object(reading, depth)
    elif c == b'[':
        _array(reading, depth)
    elif c == b't':
        _word(reading, "true", 4)
    elif c == b'f':
        _word(reading, "false", 5)
    elif c == b'n':
        _word(reading, "null", 4)
    else:
        _number(reading)


cdef void _array(Reading *reading, int depth):
    reading.at += 1
    _space(reading)
    if reading.at < reading.end and reading.at[0] == b']':
        reading.at += 1
        return
    while True:
        _space(reading)
        _value(reading, depth + 1)
        if reading.odd:
            return
        _space(reading)
        if reading.at >= reading.end:
            reading.odd = True
            return
        if reading.at[0] == b']':
            reading.at += 1
            return
        if reading.at[0] != b',':
            reading.odd = True
            return
        reading.at += 1


cdef bint _key(Reading *reading, Span *key, bint first):
    """The next key of an object, up to its value; False at the object's end, or when it is odd."""
    cdef bint escaped
    _space(reading)
    if reading.at >= reading.end:
        reading.odd = True
        return False
    if reading.at[0] == b'}':
        reading.at += 1
        return False
    if not first:
        if reading.at[0] != b',':
            reading.odd = True
            return False
        reading.at += 1
        _space(reading)
    if reading.at >= reading.end or reading.at[0] != b'"':
        reading.odd = True
        return False
    key[0] = _string(reading, &escaped)
    if reading.odd or escaped:
        reading.odd = True
        return False
    _space(reading)
    if reading.at >= reading.end or reading.at[0] != b':':
        reading.odd = True
        return False
    reading.at += 1
    _space(reading)
    if reading.at >= reading.end:
        reading.odd = True
        return False
    return True


cdef Py_ssize_t _object(Reading *reading, int depth):
    """Pass over an object. Returns how many keys it has."""
    cdef Span keys[KEYS_MAX]
    cdef Py_ssize_t count = 0, at
    reading.at += 1
    while _key(reading, &keys[count], count == 0):
        for at in range(count):
            if keys[at].size == keys[count].size and memcmp(keys[at].start, keys[count].start, keys[at].size) == 0:
                reading.canonical = False  # the last of a key's values is the one that counts
        _value(reading, depth + 1)
        if reading.odd:
            return count
        count += 1
        if count == KEYS_MAX:
            reading.odd = True
            return count
    return count


cdef inline int _two(const char *at):
    if b'0' <= at[0] <= b'9' and b'0' <= at[1] <= b'9':
        return (at[0] - 48) * 10 + (at[1] - 48)
    return -1


cdef long long _instant(Span text):
    """`2026-01-31T10:00:00Z`, with or without milliseconds; ODD for every other form."""
    cdef int century, year, month, day, hour, minute, second
    cdef long long ms = 0, days, era, of_era, of_year
    cdef const char *at = text.start
    if text.size == 24:
        if at[19] != b'.' or not (b'0' <= at[20] <= b'9'):
            return ODD
        second = _two(at + 21)
        if second < 0:
            return ODD
        ms = (at[20] - 48) * 100 + second
    elif text.size != 20:
        return ODD
    if at[4] != b'-' or at[7] != b'-' or at[10] != b'T' or at[13] != b':' or at[16] != b':' or at[text.size - 1] != b'Z':
        return ODD
    century, year, month, day = _two(at), _two(at + 2), _two(at + 5), _two(at + 8)
    hour, minute, second = _two(at + 11), _two(at + 14), _two(at + 17)
    # The 29th of February and years before 1970 are left to the walk in Python.
    if century < 19 or year < 0 or not 1 <= month <= 12 or day < 1 or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return ODD
    if second < 0 or second > 59 or day > (28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31):
        return ODD
    year += century * 100
    if year < 1970:
        return ODD
    # Days of the proleptic Gregorian calendar, the year taken to begin in March.
    if month <= 2:
        year -= 1
        month += 12
    of_year = (153 * (month - 3) + 2) // 5 + day - 1
    era = year // 400
    of_era = year - era * 400
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return days * DAY_MS + hour * 3600000 + minute * 60000 + second * 1000 + ms


cdef struct Wire:
    # The fields of an event that are read. A size of ABSENT: not there, or null.
    Span type
    Span message_id
    Span user_id
    Span anonymous_id
    Span event
    Span name
    Span times[4]
    Span properties
    Span traits
    int system
    Span device_id
    Span device_token
    Span device_advertising_id
    bint properties_canonical
    bint traits_canonical
    unsigned int seen


cdef inline Span *_text_field(Wire *wire, Span key, unsigned int *bit):
    """Where the text under a key belongs, or NULL."""
    if _is(key, "type", 4):
        bit[0] = 1
        return &wire.type
    if _is(key, "event", 5):
        bit[0] = 2
        return &wire.event
    if _is(key, "messageId", 9):
        bit[0] = 4
        return &wire.message_id
    if _is(key, "anonymousId", 11):
        bit[0] = 8
        return &wire.anonymous_id
    if _is(key, "userId", 6):
        bit[0] = 16
        return &wire.user_id
    if _is(key, "timestamp", 9):
        bit[0] = 32
        return &wire.times[0]
    if _is(key, "originalTimestamp", 17):
        bit[0] = 64
        return &wire.times[1]
    if _is(key, "sentAt", 6):
        bit[0] = 128
        return &wire.times[2]
    if _is(key, "receivedAt", 10):
        bit[0] = 256
        return &wire.times[3]
    if _is(key, "name", 4):
        bit[0] = 512
        return &wire.name
    return NULL


cdef inline unsigned int _object_bit(Span key):
    if _is(key, "properties", 10):
        return 1024
    if _is(key, "context", 7):
        return 2048
    if _is(key, "traits", 6):
        return 4096
    if _is(key, "integrations", 12):
        return 8192
    if _is(key, "groupId", 7) or _is(key, "previousId", 10):
        return 16384
    return 0


cdef void _without(Reading *reading, tuple odd_keys):
    """Pass over an object that must have none of these keys."""
    cdef Span key
    cdef bint first = True
    cdef bytes odd_key
    reading.at += 1
    while _key(reading, &key, first):
        first = False
        for odd_key in odd_keys:
            if _is(key, PyBytes_AS_STRING(odd_key), PyBytes_GET_SIZE(odd_key)):
                reading.odd = True
                return
        _value(reading, 2)
        if reading.odd:
            return


cdef void _context(Reading *reading, Wire *wire):
    """The context: a device is read; other holders of ids are odd, and the rest is passed over."""
    cdef Span key
    cdef bint first = True, device = False
    reading.at += 1
    while _key(reading, &key, first):
        first = False
        if (
            _is(key, "traits", 6)
            or _is(key, "integrations", 12)
            or _is(key, "Braze", 5)
            or _is(key, "groupId", 7)
            or _is(key, "externalIds", 11)
        ):
            reading.odd = True
            return
        if _is(key, "device", 6):
            if device or reading.at[0] != b'{':
                reading.odd = True
                return
            device = True
            _device(reading, wire)
        else:
            _value(reading, 2)
        if reading.odd:
            return


cdef void _device(Reading *reading, Wire *wire):
    """The ids of a phone, as `identity.extract` takes them."""
    cdef Span key, system, advertising_id
    cdef Span *field
    cdef bint first = True, escaped
    cdef unsigned int seen = 0, bit
    cdef char tracking = 0
    system.size = advertising_id.size = ABSENT
    reading.at += 1
    while _key(reading, &key, first):
        first = False
        field = NULL
        bit = 0
        if _is(key, "type", 4):
            field, bit = &system, 1
        elif _is(key, "id", 2):
            field, bit = &wire.device_id, 2
        elif _is(key, "token", 5):
            field, bit = &wire.device_token, 4
        elif _is(key, "advertisingId", 13):
            field, bit = &advertising_id, 8
        elif _is(key, "adTrackingEnabled", 17):
            bit = 16
            tracking = reading.at[0]
            if tracking != b't' and tracking != b'f':
                reading.odd = True
        if seen & bit:
            reading.odd = True
        seen |= bit
        if reading.odd:
            return
        if field == NULL:
            _value(reading, 3)
        elif reading.at[0] == b'"':
            field[0] = _string(reading, &escaped)
            reading.odd = reading.odd or escaped or field.size > ID_BYTES_MAX
        else:
            reading.odd = True
        if reading.odd:
            return
    wire.system = ANDROID if _is(system, "android", 7) else IOS if _is(system, "ios", 3) else 0
    if wire.system and (tracking == b't' or (wire.system == IOS and tracking != b'f')):
        wire.device_advertising_id = advertising_id


cdef tuple _INTEGRATIONS_ODD = (b"Personas",)


cdef Span _object_field(Reading *reading):
    """An object and where it stands; an empty one has the size of two brackets."""
    cdef Span span
    reading.canonical = True
    span.start = reading.at
    if _object(reading, 1) == 0:
        span.size = 2
    else:
        span.size = reading.at - span.start
    return span


cdef void _read_event(Reading *reading, Wire *wire):
    """One pass over the record: where its fields stand. Sets `odd` for all that needs a closer look."""
    cdef Span key
    cdef Span *field
    cdef bint first = True, escaped
    cdef unsigned int bit
    cdef char c
    _space(reading)
    if reading.at >= reading.end or reading.at[0] != b'{':
        reading.odd = True
        return
    reading.at += 1
    while _key(reading, &key, first):
        first = False
        bit = 0
        field = _text_field(wire, key, &bit)
        if field == NULL:
            bit = _object_bit(key)
        if wire.seen & bit:
            reading.odd = True  # of two values of a key the last one counts
            return
        wire.seen |= bit
        c = reading.at[0]
        if c == b'n' or bit == 0:
            _value(reading, 1)
        elif field != NULL and c == b'"':
            field[0] = _string(reading, &escaped)
            reading.odd = reading.odd or escaped
        elif bit == 1024 and c == b'{':
            wire.properties = _object_field(reading)
            wire.properties_canonical = reading.canonical
        elif bit == 4096 and c == b'{':
            wire.traits = _object_field(reading)
            wire.traits_canonical = reading.canonical
        elif bit == 2048 and c == b'{':
            _context(reading, wire)
        elif bit == 8192 and c == b'{':
            _without(reading, _INTEGRATIONS_ODD)
        else:
            reading.odd = True
        if reading.odd:
            return
    if not reading.odd:
        _space(reading)
        if reading.at != reading.end:
            reading.odd = True


cdef long long _time_of(Wire *wire, long long timestamp):
    """Event time by the skew formula, as `intake.checks.time_of`; ODD for all that is no plain instant."""
    cdef long long instants[4]
    cdef long long time, made
    cdef int number
    for number in range(4):
        instants[number] = ABSENT
        if wire.times[number].size != ABSENT:
            instants[number] = _instant(wire.times[number])
            if instants[number] == ODD:
                return ODD
    if instants[3] == ABSENT:
        instants[3] = timestamp
    if instants[2] == ABSENT:
        time = instants[0] if instants[0] != ABSENT else instants[1] if instants[1] != ABSENT else instants[3]
    else:
        made = instants[1] if instants[1] != ABSENT else instants[0]
        time = instants[3] if made == ABSENT else instants[3] - (instants[2] - made)
    return ODD if time < 0 or time > INSTANT_MAX else time


cdef class KnownEvents:
    """Takes plain events of one topology's rules into one graph: those whose identifiers are all known and together,
    and those that bring new ones to one profile or to none.
    """

    cdef dict _owners
    cdef object _rules, _graph, _first_seen
    cdef dict _ranks
    cdef str _space
    cdef long long _horizon, _mappings_max
    cdef unsigned int _partitions
    cdef bint _users, _anonymous, _plain_blocked
    cdef frozenset _exact
    cdef tuple _property_keys, _trait_keys, _device_types
    cdef char _change[CHANGE_BYTES_MAX]
    cdef Py_ssize_t _size
    cdef long long _counts[4]
    cdef long long _duplicates[4]
    cdef long long _created, _mapped
    cdef dict _demotions
    cdef list _ids
    cdef Py_ssize_t _ids_bytes
    # The step under way.
    cdef object _changes
    cdef list _outputs
    cdef str _src
    cdef bytes _seq, _version
    cdef object _topic
    cdef bytes _topic_json

    def __init__(self, rules, graph, long long horizon, unsigned int partitions):
        """`graph`: the draft whose cache of users is read here, and which is told of new identifiers."""
        ranks = rules.ranks(())
        self._rules = rules
        self._graph = graph
        self._owners = graph.known_users
        self._first_seen = graph.first_seen
        self._ranks = ranks
        self._space = rules.space
        self._horizon = horizon
        self._mappings_max = rules.mappings_max
        self._partitions = partitions
        self._users = "user_id" in ranks
        self._anonymous = "anonymous_id" in ranks
        self._device_types = tuple(
            tuple(f"{system}.{name}" if f"{system}.{name}" in ranks else None for name in ("id", "push_token", "idfa"))
            for system in ("android", "ios")
        )
        blocked = rules.blocked
        self._plain_blocked = not rules.blocked_of and not blocked.patterns and blocked.zeroes_and_dashes
        self._exact = blocked.exact
        self._property_keys = _named_keys(rules.property_keys, ranks)
        self._trait_keys = _named_keys(rules.trait_keys, ranks)
        self._demotions = {}

    def take_tally(self):
        """Events taken, duplicates passed over and decisions since the last call, as what is counted and how often."""
        tally = {}
        for number, name in enumerate(("identify", "track", "page", "screen")):
            if self._counts[number]:
                tally["event", name] = self._counts[number]
            if self._duplicates[number]:
                tally["duplicate", name] = self._duplicates[number]
            self._counts[number] = self._duplicates[number] = 0
        if self._created:
            tally["decision", "profile_created", ""] = self._created
        if self._mapped:
            tally["decision", "identifier_mapped", ""] = self._mapped
        self._created = self._mapped = 0
        tally.update(self._demotions)
        self._demotions.clear()
        return tally

    def begin(self, long long step, str version, changes, list outputs):
        """A step begins: its changes by partition and its ledger rows go into these."""
        self._changes = changes
        self._outputs = outputs
        self._src = f"identity/0/{step}/"
        self._seq = b'{"seq":"%012d-' % step
        self._version = _encode(version)

    def take(self, record, long long now, long long index, long long number):
        """Take the event in `record`, the step's `number`-th, if it is plain: its change is appended to its
        partition's list, and its decisions to the outputs.

        Returns LEFT (0) if it must be walked in Python, and then nothing was done; TAKEN (1); or DUPLICATE (2).
        """
        cdef Reading reading
        cdef Wire wire
        cdef int kind
        cdef long long time, timestamp = record.timestamp
        cdef bytes raw = record.value
        if raw is None or PyBytes_GET_SIZE(raw) > RECORD_BYTES_MAX or timestamp < 0 or timestamp > INSTANT_MAX:
            return LEFT
        _clear(&wire)
        reading.at = PyBytes_AS_STRING(raw)
        reading.end = reading.at + PyBytes_GET_SIZE(raw)
        reading.odd = reading.beyond_ascii = False
        _read_event(&reading, &wire)
        if reading.odd or wire.message_id.size < 1 or wire.message_id.size > MESSAGE_ID_BYTES_MAX:
            return LEFT
        kind = _kind(&wire)
        time = _time_of(&wire, timestamp)
        if kind < 0 or time == ODD or (reading.beyond_ascii and not _is_utf8(raw)):
            return LEFT
        if time > now:
            time = now
        self._ids = []
        self._ids_bytes = 0
        if not self._collect(&wire, kind) or not self._ids:
            return LEFT
        owner, new = self._owner()
        demoted = ()
        profile = None
        if owner is None or new:
            if not record.identity:
                return LEFT
            if owner:
                profile = self._graph.profile(owner)
            if owner is None or not self._is_within_limits(profile, new, time):
                owner, new, demoted = self._demoted(time)
                if owner is None:
                    return LEFT
                profile = self._graph.profile(owner) if owner else None
        if new and not self._is_within_caps(profile, new):
            return LEFT
        message_id = PyUnicode_DecodeUTF8(wire.message_id.start, wire.message_id.size, NULL)
        if not self._first_seen(message_id, now, self._horizon):
            self._duplicates[kind] += 1
            return DUPLICATE
        self._counts[kind] += 1
        if new:
            self._link(record.source, profile, new, demoted, message_id, &wire, kind, index, number, now, time)
        else:
            if demoted:
                self._rows(<str>owner, [], False, demoted, record.source, &wire, number, now, time)
            self._tell(<str>owner, &wire, kind, index, number, now, time)
            self._finish_change(<str>owner)
        return TAKEN

    cdef bint _is_blocked(self, str type_, str value) except -1:
        cdef Py_ssize_t at, size = 0
        cdef const char *text
        if not self._plain_blocked:
            return self._rules.is_blocked((type_, value))
        if value in self._exact:
            return True
        text = PyUnicode_AsUTF8AndSize(value, &size)
        for at in range(size):
            if text[at] != b'0' and text[at] != b'-':
                return False
        return True

    cdef bint _add(self, str type_, Span value) except -1:
        """One identifier of the event; False if the event is to be left: it is blocked, or too long."""
        if value.size > ID_BYTES_MAX or len(self._ids) >= IDS_MAX:
            return False
        text = PyUnicode_DecodeUTF8(value.start, value.size, NULL)
        if self._is_blocked(type_, text):
            return False
        self._ids.append((type_, text))
        self._ids_bytes += value.size
        return True

    cdef bint _collect(self, Wire *wire, int kind) except -1:
        """All identifiers of the event; False if it is to be left."""
        cdef Span device_ids[3]
        cdef int number
        if wire.anonymous_id.size > ID_BYTES_MAX or wire.user_id.size > ID_BYTES_MAX:
            return False
        if wire.anonymous_id.size > 0 and self._anonymous and not self._add("anonymous_id", wire.anonymous_id):
            return False
        if wire.user_id.size > 0 and self._users and not self._add("user_id", wire.user_id):
            return False
        if wire.system:
            device_ids[0], device_ids[1], device_ids[2] = wire.device_id, wire.device_token, wire.device_advertising_id
            for number in range(3):
                type_ = self._device_types[wire.system - 1][number]
                if type_ is not None and device_ids[number].size > 0 and not self._add(type_, device_ids[number]):
                    return False
        if kind == 0:
            return self._collect_named(wire.traits, self._trait_keys, b"")
        if kind == 1 or wire.name.size < 1:
            return self._collect_named(wire.properties, self._property_keys, b"")
        return self._collect_named(wire.properties, self._property_keys, b"page_name" if kind == 2 else b"screen_name")

    cdef bint _collect_named(self, Span span, tuple keys, bytes odd_key) except -1:
        """The ids among the properties or traits; False also where `odd_key` is one of their keys."""
        cdef Reading reading
        cdef Span key, value
        cdef bint first = True, escaped
        cdef bytes name
        if span.size == ABSENT:
            return True
        reading.at, reading.end = span.start + 1, span.start + span.size
        reading.odd = reading.beyond_ascii = False
        while _key(&reading, &key, first):
            first = False
            if odd_key and _is(key, PyBytes_AS_STRING(odd_key), PyBytes_GET_SIZE(odd_key)):
                return False
            for name, type_ in keys:
                if not _is(key, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
                    continue
                if reading.at[0] == b'n':
                    break
                if reading.at[0] != b'"':
                    return False
                value.start = reading.at
                value = _string(&reading, &escaped)
                if escaped or value.size > ID_BYTES_MAX:
                    return False
                reading.at = value.start - 1
                if value.size and type_ is not None and not self._add(type_, value):
                    return False
            _value(&reading, 1)
        return True

    cdef tuple _owner(self):
        """The one profile that holds identifiers of the event, or "" if none does, and those that nobody holds.

        None: there are several.
        """
        cdef PyObject *found
        owner = ""
        new = None
        for external_id in self._ids:
            found = PyDict_GetItem(self._owners, external_id)
            if found == NULL:
                other = self._graph.owner(_USERS, external_id)
                if other is None:
                    if new is None:
                        new = [external_id]
                    elif external_id not in new:
                        new.append(external_id)
                    continue
            else:
                other = <object>found
            if owner == "":
                owner = other
            elif other != owner:
                return None, None
        return owner, new

    cdef tuple _demoted(self, long long time):
        """The same once limits have left identifiers out, and those.

        None: several profiles are to be merged, or two ids have one type, whose order is a matter for extraction.
        """
        owners = {}
        profiles = {}
        types = set()
        for type_, value in self._ids:
            external_id = _ExternalId(type_, value)
            if external_id in owners:
                continue
            types.add(type_)
            owner = self._graph.owner(_USERS, external_id)
            owners[external_id] = owner
            if owner is not None and owner not in profiles:
                profiles[owner] = self._graph.profile(owner)
        if len(types) < len(owners):
            return None, None, None
        ranks = self._rules.ranks(self._graph.registered_types)
        kept, demoted = _demote(tuple(owners), owners, profiles, time, self._rules, ranks)
        owner = ""
        new = []
        for external_id in kept:
            other = owners[external_id]
            if other is None:
                new.append(external_id)
            elif owner == "":
                owner = other
            elif other != owner:
                return None, None, None
        return owner, new, demoted

    cdef bint _is_within_limits(self, profile, list new, long long time) except -1:
        """Does the profile (None: a new one) stay within every limit with these? False also when that is not plain."""
        cdef long long held
        cdef Py_ssize_t at
        for at in range(1, len(new)):
            if new[at][0] in [known[0] for known in new[:at]]:
                return False
        if profile is None:
            # One value of each type: within any limit.
            return True
        for type_, _ in new:
            limit = self._rules.limit(type_)
            period = limit.period
            held = 0
            for mapping in profile.mappings:
                if mapping.type == type_ and (period is None or mapping.mapped_at > time - period):
                    held += 1
            if held >= limit.count:
                return False
        return True

    cdef bint _is_within_caps(self, profile, list new) except -1:
        if self._ids_bytes > IDS_BYTES_MAX:
            return False
        return (0 if profile is None else len(profile.mappings)) + len(new) <= self._mappings_max

    cdef int _link(
        self,
        source,
        profile,
        list new,
        demoted,
        str message_id,
        Wire *wire,
        int kind,
        long long index,
        long long record,
        long long now,
        long long time,
    ) except -1:
        """Map the new identifiers, most trusted first, to the profile, or to one that they create."""
        cdef str type_, value
        cdef bint created = profile is None
        if len(new) > 1:
            new.sort(key=self._rank)
        mapped = tuple([_Mapping(type_, value, time, message_id) for type_, value in new])
        if created:
            profile_id = self._new_id(message_id, source)
            linked = _Profile(profile_id, _USERS, self._graph.profiles_count, time, mapped)
        else:
            profile_id = profile.id
            linked = _Profile(
                profile_id,
                profile.collection,
                profile.number,
                profile.created,
                profile.mappings + mapped,
                profile.merges,
                profile.absorbed,
                profile.old_links,
            )
        self._graph.link(linked, new, created)
        self._rows(profile_id, new, created, demoted, source, wire, record, now, time)
        self._tell(profile_id, wire, kind, index, record, now, time)
        if created:
            self._put(',"created":', 11)
            self._put_number(time)
        self._put(',"external_ids":', 16)
        for number, (type_, value) in enumerate(new):
            self._put(',["' if number else '[["', 3)
            self._put_text(type_)
            self._put('","', 3)
            self._put_text(value)
            self._put('",', 2)
            self._put_number(time)
            self._put(']', 1)
        self._put(']', 1)
        self._finish_change(profile_id)
        return 0

    def _rank(self, external_id):
        return self._ranks[external_id[0]]

    cdef str _new_id(self, str message_id, source):
        """As `model.ids.profile_id_for`."""
        cdef char digits[DIGITS + 4]
        cdef unsigned int words[5]
        cdef unsigned long long part, rest
        cdef int at, word
        cdef const unsigned char *digest
        hashed = _blake2b(digest_size=20)
        place = f"{source[0]}/{source[1]}/{source[2]}/{source[3]}"
        pieces = []
        for text in ("profile", self._space, _USERS, message_id, place):
            raw = text.encode("utf-8", "surrogatepass")
            pieces.append(b"%d:" % len(raw))
            pieces.append(raw)
        hashed.update(b"".join(pieces))
        raw = hashed.digest()
        digest = <const unsigned char *>PyBytes_AS_STRING(raw)
        for word in range(5):
            words[word] = (
                (<unsigned int>digest[4 * word] << 24)
                | (<unsigned int>digest[4 * word + 1] << 16)
                | (<unsigned int>digest[4 * word + 2] << 8)
                | <unsigned int>digest[4 * word + 3]
            )
        memcpy(digits, "use_", 4)
        for at in range(DIGITS + 3, 3, -1):
            rest = 0
            for word in range(5):
                part = (rest << 32) | words[word]
                words[word] = <unsigned int>(part // 62)
                rest = part % 62
            digits[at] = _BASE62[rest]
        return PyUnicode_DecodeUTF8(digits, DIGITS + 4, NULL)

    cdef int _rows(
        self,
        str profile_id,
        list new,
        bint created,
        demoted,
        source,
        Wire *wire,
        long long record,
        long long now,
        long long time,
    ) except -1:
        """The ledger rows of an event, as `identity.ledger_row` and the stage write them."""
        if source[0] is not self._topic:
            self._topic = source[0]
            self._topic_json = _encode(self._topic)
        src = f"{self._src}{record}/"
        cdef int number = 0
        if created:
            self._created += 1
            self._row(profile_id, "profile_created", None, None, source, wire, record, now, time, f"{src}{number}")
            number += 1
        for external_id in new:
            self._mapped += 1
            self._row(profile_id, "identifier_mapped", external_id, None, source, wire, record, now, time, f"{src}{number}")
            number += 1
        for out in demoted:
            what = ("decision", "identifier_demoted", out.violation)
            self._demotions[what] = self._demotions.get(what, 0) + 1
            self._row(
                profile_id,
                "identifier_demoted",
                out.external_id,
                out.violation,
                source,
                wire,
                record,
                now,
                time,
                f"{src}{number}",
            )
            number += 1
        return 0

    cdef int _row(
        self,
        str profile_id,
        str decision,
        external_id,
        violation,
        source,
        Wire *wire,
        long long record,
        long long now,
        long long time,
        str src,
    ) except -1:
        cdef Py_ssize_t size = 0
        cdef const char *id_text = PyUnicode_AsUTF8AndSize(profile_id, &size)
        cdef unsigned int partition = _crc32(id_text, size) % self._partitions
        self._size = 0
        self._put(PyBytes_AS_STRING(self._seq), PyBytes_GET_SIZE(self._seq))
        self._put_padded(record, 9)
        self._put('","decision":"', 14)
        self._put_text(decision)
        self._put('","profile_id":"', 16)
        self._put(id_text, size)
        self._put('","collection":"users"', 22)
        if external_id is not None:
            if violation is None:
                self._put(',"identifiers":[{"type":"', 25)
            else:
                self._put(',"demoted":[{"type":"', 21)
            self._put_text(external_id[0])
            self._put('","id":"', 8)
            self._put_text(external_id[1])
            self._put('"}]', 3)
        if violation is not None:
            self._put(',"violation":"', 14)
            self._put_text(violation)
            self._put('"', 1)
        self._put(',"message_id":"', 15)
        self._put(wire.message_id.start, wire.message_id.size)
        self._put('","source":{"topic":', 20)
        self._put(PyBytes_AS_STRING(self._topic_json), PyBytes_GET_SIZE(self._topic_json))
        self._put(',"partition":', 13)
        self._put_number(source[2])
        self._put(',"offset":', 10)
        self._put_number(source[3])
        self._put('},"time":"', 10)
        self._put_instant(time)
        self._put('","now":"', 9)
        self._put_instant(now)
        self._put('","topology_version":', 21)
        self._put(PyBytes_AS_STRING(self._version), PyBytes_GET_SIZE(self._version))
        self._put('}', 1)
        value = PyBytes_FromStringAndSize(self._change, self._size)
        self._outputs.append(_Output(_LEDGER, partition, PyBytes_FromStringAndSize(id_text, size), value, src))
        return 0

    cdef int _put_text(self, str text) except -1:
        cdef Py_ssize_t size = 0
        cdef const char *start = PyUnicode_AsUTF8AndSize(text, &size)
        self._put(start, size)
        return 0

    cdef void _put_padded(self, long long number, int digits):
        cdef int at
        for at in range(digits - 1, -1, -1):
            self._change[self._size + at] = 48 + number % 10
            number //= 10
        self._size += digits

    cdef void _put_instant(self, long long instant):
        """As `model.time.format_instant`, for instants from 1970 on."""
        cdef long long days = instant // DAY_MS, of_day = instant % DAY_MS, era, of_era, of_year, month
        days += 719468
        era = days // 146097
        days -= era * 146097
        of_era = (days - days // 1460 + days // 36524 - days // 146096) // 365
        of_year = days - (365 * of_era + of_era // 4 - of_era // 100)
        month = (5 * of_year + 2) // 153
        self._put_padded(of_era + era * 400 + (month >= 10), 4)
        self._put('-', 1)
        self._put_padded(month + 3 if month < 10 else month - 9, 2)
        self._put('-', 1)
        self._put_padded(of_year - (153 * month + 2) // 5 + 1, 2)
        self._put('T', 1)
        self._put_padded(of_day // 3600000, 2)
        self._put(':', 1)
        self._put_padded(of_day // 60000 % 60, 2)
        self._put(':', 1)
        self._put_padded(of_day // 1000 % 60, 2)
        self._put('.', 1)
        self._put_padded(of_day % 1000, 3)
        self._put('Z', 1)

    cdef void _put(self, const char *text, Py_ssize_t size):
        memcpy(self._change + self._size, text, size)
        self._size += size

    cdef void _put_number(self, long long number):
        cdef char digits[24]
        cdef int at = 24
        while True:
            at -= 1
            digits[at] = 48 + number % 10
            number //= 10
            if number == 0:
                break
        self._put(digits + at, 24 - at)

    cdef int _put_object(self, Span span, bint canonical) except -1:
        """An object as the encoder writes it."""
        cdef bytes written
        if canonical:
            self._put(span.start, span.size)
            return 0
        written = _encode(_decode(PyBytes_FromStringAndSize(span.start, span.size)))
        if self._size + PyBytes_GET_SIZE(written) > CHANGE_BYTES_MAX - 1024 - IDS_BYTES_MAX - 2048:
            raise OverflowError
        self._put(PyBytes_AS_STRING(written), PyBytes_GET_SIZE(written))
        return 0

    cdef int _tell(
        self, str owner, Wire *wire, int kind, long long index, long long record, long long now, long long time
    ) except -1:
        """The change, as `model.change.ProfileEvent` is written, but for what a link adds to its end; fields in its
        order, those with default values left out.
        """
        cdef Py_ssize_t size = 0
        cdef const char *profile_id = PyUnicode_AsUTF8AndSize(owner, &size)
        self._size = 0
        self._put('{"change":"event","index":', 26)
        self._put_number(index)
        self._put(',"record":', 10)
        self._put_number(record)
        self._put(',"now":', 7)
        self._put_number(now)
        self._put(',"profile_id":"', 15)
        self._put(profile_id, size)
        self._put('","collection":"users","type":"', 31)
        self._put(wire.type.start, wire.type.size)
        self._put('","message_id":"', 16)
        self._put(wire.message_id.start, wire.message_id.size)
        self._put('","time":', 9)
        self._put_number(time)
        if kind == 0:
            if wire.traits.size > 2:
                self._put(',"traits":', 10)
                self._put_object(wire.traits, wire.traits_canonical)
        else:
            self._put(',"name":"', 9)
            if kind == 1:
                self._put(wire.event.start, wire.event.size)
            elif kind == 2:
                self._put("Page Viewed", 11)
            else:
                self._put("Screen Viewed", 13)
            self._put('"', 1)
            self._put_properties(wire, kind)
        return 0

    cdef int _finish_change(self, str owner) except -1:
        """The change goes into the list of its profile's partition."""
        cdef Py_ssize_t size = 0
        cdef const char *profile_id = PyUnicode_AsUTF8AndSize(owner, &size)
        self._put('}', 1)
        change = _Raw(PyBytes_FromStringAndSize(self._change, self._size))
        self._changes[_crc32(profile_id, size) % self._partitions].append(change)
        return 0

    cdef int _put_properties(self, Wire *wire, int kind) except -1:
        """The properties, to which a page or a screen adds its name."""
        cdef bint named = kind != 1 and wire.name.size > 0
        if wire.properties.size > 2:
            self._put(',"properties":', 14)
            self._put_object(wire.properties, wire.properties_canonical)
            if named:
                self._size -= 1
                self._put(',', 1)
        elif named:
            self._put(',"properties":{', 15)
        if named:
            if kind == 2:
                self._put('"page_name":"', 13)
            else:
                self._put('"screen_name":"', 15)
            self._put(wire.name.start, wire.name.size)
            self._put('"}', 2)
        return 0


cdef void _clear(Wire *wire):
    cdef int number
    wire.seen = 0
    wire.type.size = wire.message_id.size = wire.user_id.size = wire.anonymous_id.size = ABSENT
    wire.event.size = wire.name.size = wire.properties.size = wire.traits.size = ABSENT
    wire.device_id.size = wire.device_token.size = wire.device_advertising_id.size = ABSENT
    wire.system = 0
    wire.properties_canonical = wire.traits_canonical = True
    for number in range(4):
        wire.times[number].size = ABSENT


cdef int _kind(Wire *wire):
    if _is(wire.type, "track", 5):
        return 1 if wire.event.size > 0 else -1
    if _is(wire.type, "page", 4):
        return 2
    if _is(wire.type, "screen", 6):
        return 3
    return 0 if _is(wire.type, "identify", 8) else -1


cdef bint _is_utf8(bytes raw):
    try:
        PyUnicode_DecodeUTF8(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), NULL)
    except UnicodeDecodeError:
        return False
    return True


cdef tuple _named_keys(keys, ranks):
    """Keys with the types of their ids. Intake holds `email` to be an id even where the type is switched off."""
    named = {key: type_ if type_ in ranks else None for key, type_ in keys}
    named.setdefault("email", None)
    return tuple((key.encode(), type_) for key, type_ in named.items())

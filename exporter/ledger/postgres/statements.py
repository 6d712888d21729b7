"""The statements that a replica runs again and again. Each is one transaction, and fenced by the replica's row.

Whatever else a statement writes is joined to its `fence`: where the replica's row is not as this process left it,
because a later question raised the epoch or the replica was taken for gone, the statement writes nothing.
"""
# ruff: noqa: S608 - the schema's name is a constant

from __future__ import annotations

from exporter.ledger.postgres.flow import DURABLE
from exporter.ledger.postgres.schema import GONE_SECONDS, SCHEMA

# States of a message's id.
SETTLED = 1
REPEATED = 2  # it was delivered again
RESUMED = 4  # it was delivered again although it was settled

# What else is counted with an event that is new.
UNREADABLE = 1
BEYOND_TYPES = 2
BEYOND_SERIES = 4
WITHOUT_EVENT_ID = 8

# Names of counts; those by reason begin with one of the prefixes.
REJECTED, RELEASED, OVERFLOWED = "rejected/", "released/", "overflowed/"
DUPLICATE = "duplicate"
TIMESTAMPS_UNREADABLE = "timestamps_unreadable"
EVENTS_WITHOUT_ID = "without_event_id"
FORGOTTEN_EARLY = "forgotten_early"
EVENTS_FORGOTTEN = "events_forgotten"
IDS, UNSETTLED = "ids", "unsettled"

_ALIVE = "id = $1::int AND epoch = $2::bigint AND folded_at IS NULL"

REGISTER = f"""
WITH allowed AS (SELECT FROM {SCHEMA}.schema WHERE oldest_writer <= $2::int FOR SHARE)
INSERT INTO {SCHEMA}.replicas (ledger_id, version) SELECT $1::int, $2::int FROM allowed RETURNING id, {DURABLE}
"""

ASK = f"""
UPDATE {SCHEMA}.replicas SET epoch = epoch + 1, renewed_at = clock_timestamp() WHERE id = $1::int
RETURNING seq, epoch, folded_at IS NOT NULL, {DURABLE}
"""
"""What became of the commits of this replica. It waits for a statement that still runs and shuts out a later one."""

BIND = f"""
WITH there AS (
  UPDATE {SCHEMA}.queues SET visibility_timeout_seconds = $4::int, retention_seconds = $5::int
  WHERE ledger_id = $1::int AND name = $2::text AND arn = $3::text RETURNING id, {DURABLE}
), made AS (
  INSERT INTO {SCHEMA}.queues AS q (ledger_id, name, arn, visibility_timeout_seconds, retention_seconds)
  SELECT $1::int, $2::text, $3::text, $4::int, $5::int
  WHERE NOT exists(SELECT FROM {SCHEMA}.queues WHERE ledger_id = $1::int AND name = $2::text)
  ON CONFLICT (ledger_id, name) DO UPDATE SET visibility_timeout_seconds = excluded.visibility_timeout_seconds,
    retention_seconds = excluded.retention_seconds WHERE q.arn = excluded.arn RETURNING id, {DURABLE}
)
SELECT * FROM there UNION ALL SELECT * FROM made
"""
"""Take a queue up: its row, or none where that is another queue's. ON CONFLICT is for replicas that make it together;
alone it would take a number from the row's smallint at each start of each replica."""

START_CLOCK = f"""
INSERT INTO {SCHEMA}.clocks (replica_id, queue_id, start_seconds, clock_seconds)
SELECT $1::int, q.id, c.seconds, c.seconds FROM {SCHEMA}.queues q, LATERAL (SELECT greatest(q.clock_seconds,
  (SELECT max(clock_seconds) FROM {SCHEMA}.clocks WHERE queue_id = q.id)) AS seconds) c WHERE q.id = $2::smallint
ON CONFLICT DO NOTHING RETURNING {DURABLE}
"""

# The sub-selects in `settled` hide from the planner how many ids there are. It takes a look at each by the index for so
# dear that it would rather read a table of 200,000 ids from one end to the other, with each commit. Joined in `fresh`,
# `candidates` would be compared each with each.
COMMIT = f"""
WITH fence AS (
  UPDATE {SCHEMA}.replicas SET seq = $3::bigint, renewed_at = clock_timestamp()
  WHERE {_ALIVE} AND seq = $3::bigint - 1 RETURNING id, {DURABLE}
), own_clocks AS (
  UPDATE {SCHEMA}.clocks c SET clock_seconds = greatest(c.clock_seconds, c.start_seconds
    + least(w.seconds, extract(epoch FROM clock_timestamp() - c.registered_at)))
  FROM fence, unnest($4::smallint[], $5::float8[]) AS w (queue_id, seconds)
  WHERE c.replica_id = fence.id AND c.queue_id = w.queue_id RETURNING c.queue_id, c.clock_seconds
), clocks AS (
  SELECT array_agg(ceil(greatest(o.clock_seconds, q.clock_seconds, (SELECT max(c.clock_seconds)
    FROM {SCHEMA}.clocks c WHERE c.queue_id = w.queue_id)))::int ORDER BY w.place) AS seconds
  FROM unnest($4::smallint[]) WITH ORDINALITY AS w (queue_id, place)
  LEFT JOIN own_clocks o USING (queue_id) LEFT JOIN {SCHEMA}.queues q ON q.id = w.queue_id
), given AS (
  SELECT ($4::smallint[])[g.place] AS queue_id, (SELECT seconds FROM clocks)[g.place] AS clock, g.*
  FROM unnest($6::smallint[], $7::uuid[], $8::uuid[], $9::int[], $10::numeric[], $11::float8[], $12::text[],
    $13::smallint[]) WITH ORDINALITY AS g (place, id, event_id, series_id, nano, occurred, reason, flags, position)
  WHERE exists(SELECT FROM fence)
), seen AS (
  INSERT INTO {SCHEMA}.message_ids AS m (queue_id, id, event_id, last_seen, state)
  SELECT queue_id, id, event_id, clock, 0 FROM given ORDER BY queue_id, id
  ON CONFLICT (queue_id, id) DO UPDATE SET last_seen = greatest(m.last_seen, excluded.last_seen),
    state = {REPEATED} | CASE WHEN m.state & {SETTLED} <> 0 THEN {RESUMED} ELSE 0 END
  RETURNING queue_id, id, event_id, state
), settled AS (
  UPDATE {SCHEMA}.message_ids m SET state = m.state | {SETTLED}
  FROM fence, unnest((SELECT $14::smallint[]), (SELECT $15::uuid[])) AS s (queue_id, id)
  WHERE m.queue_id = s.queue_id AND m.id = s.id AND m.state & {SETTLED} = 0 RETURNING m.queue_id, m.event_id
), candidates AS (
  SELECT DISTINCT ON (g.queue_id, g.event_id) g.queue_id, g.event_id, g.position
  FROM given g JOIN seen s USING (queue_id, id) WHERE s.state < {REPEATED} AND g.event_id IS NOT NULL
  ORDER BY g.queue_id, g.event_id, g.position
), changes AS (
  SELECT queue_id, event_id, sum(n)::int AS n FROM (
    SELECT queue_id, event_id, 1 AS n FROM seen WHERE state < {REPEATED} OR state & {RESUMED} <> 0
    UNION ALL SELECT queue_id, event_id, -1 FROM settled) AS c
  WHERE event_id IS NOT NULL GROUP BY queue_id, event_id
), events AS (
  INSERT INTO {SCHEMA}.event_ids AS e (queue_id, id, last_seen, unsettled, repeated)
  SELECT queue_id, event_id, (SELECT seconds FROM clocks)[array_position($4::smallint[], queue_id)], n, false
  FROM changes ORDER BY queue_id, event_id
  ON CONFLICT (queue_id, id) DO UPDATE SET last_seen = greatest(e.last_seen, excluded.last_seen),
    unsettled = e.unsettled + excluded.unsettled, repeated = true
  RETURNING queue_id, id, repeated
), fresh AS (
  SELECT g.* FROM given g JOIN seen s USING (queue_id, id)
  LEFT JOIN events e ON e.queue_id = g.queue_id AND e.id = g.event_id
  WHERE s.state < {REPEATED}
    AND (g.event_id IS NULL OR (NOT e.repeated AND g.position IN (SELECT position FROM candidates)))
), added AS (
  INSERT INTO {SCHEMA}.totals AS t (replica_id, series_id, count, value_nano, negative_nano, last_occurred_seconds)
  SELECT fence.id, series_id, count(*), coalesce(sum(nano) FILTER (WHERE nano >= 0), 0),
    coalesce(-sum(nano) FILTER (WHERE nano < 0), 0), max(occurred)
  FROM fresh, fence WHERE series_id IS NOT NULL GROUP BY fence.id, series_id
  ON CONFLICT (replica_id, series_id) DO UPDATE SET count = t.count + excluded.count,
    value_nano = t.value_nano + excluded.value_nano, negative_nano = t.negative_nano + excluded.negative_nano,
    last_occurred_seconds = greatest(t.last_occurred_seconds, excluded.last_occurred_seconds)
), counted AS (
  INSERT INTO {SCHEMA}.counts AS c (replica_id, queue_id, name, count)
  SELECT fence.id, queue_id, name, sum(n) FROM fence, (
    SELECT * FROM unnest($16::smallint[], $17::text[], $18::bigint[]) AS further (queue_id, name, n)
    UNION ALL SELECT queue_id, '{REJECTED}' || reason, count(*) FROM fresh WHERE reason IS NOT NULL GROUP BY 1, 2
    UNION ALL SELECT queue_id, f.name, count(*) FROM fresh JOIN (VALUES ({UNREADABLE}, '{TIMESTAMPS_UNREADABLE}'),
      ({BEYOND_TYPES}, '{OVERFLOWED}types'), ({BEYOND_SERIES}, '{OVERFLOWED}series'),
      ({WITHOUT_EVENT_ID}, '{EVENTS_WITHOUT_ID}')) AS f (flag, name) ON flags & f.flag <> 0
      WHERE flags <> 0 GROUP BY 1, 2
    UNION ALL SELECT queue_id, '{DUPLICATE}', count(*) FROM given GROUP BY 1
    UNION ALL SELECT queue_id, '{DUPLICATE}', -count(*) FROM fresh GROUP BY 1
    UNION ALL SELECT queue_id, '{IDS}', count(*) FROM seen WHERE state < {REPEATED} GROUP BY 1
    UNION ALL SELECT queue_id, '{IDS}', count(*) FROM events WHERE NOT repeated GROUP BY 1
    UNION ALL SELECT queue_id, '{UNSETTLED}', count(*) FROM seen
      WHERE state < {REPEATED} OR state & {RESUMED} <> 0 GROUP BY 1
    UNION ALL SELECT queue_id, '{UNSETTLED}', -count(*) FROM settled GROUP BY 1) AS changes (queue_id, name, n)
  GROUP BY fence.id, queue_id, name HAVING sum(n) <> 0
  ON CONFLICT (replica_id, queue_id, name) DO UPDATE SET count = c.count + excluded.count
)
SELECT (SELECT count(*) FROM seen), array(SELECT position FROM given EXCEPT SELECT position FROM fresh)
FROM fence
"""
"""One commit. $1 replica, $2 epoch, $3 its sequence number; $4, $5 queues, and how long their receives succeeded since
this replica registered; $6 to $13 the deliveries, each id once: the place of its queue among those (from 1), its ids,
the series, value and time of its event or the reason why it is none, and what else it counts as; $14, $15 the ids that
were settled, none of which is among the deliveries; $16 to $18 what else there is to count. One row, or none where the
replica was fenced out: how many deliveries there were, and the positions (from 1) of those that are duplicates."""

# The two conditions on `last_seen` bound what is read of the index, however many ids are remembered.
PRUNE = f"""
WITH fence AS (
  UPDATE {SCHEMA}.replicas SET renewed_at = clock_timestamp() WHERE {_ALIVE} RETURNING id, {DURABLE}
), gone AS (
  DELETE FROM {SCHEMA}.message_ids WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {SCHEMA}.message_ids m WHERE m.queue_id = $3::smallint AND m.last_seen >= $10::int
    AND m.last_seen <= $4::int AND (m.state & {SETTLED} <> 0 OR m.last_seen <= $5::int) AND exists(SELECT FROM fence)
    ORDER BY m.last_seen LIMIT $6::int FOR UPDATE SKIP LOCKED))
  RETURNING event_id, last_seen, state & {SETTLED} = 0 AS unsettled
), gone_events AS (
  DELETE FROM {SCHEMA}.event_ids WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {SCHEMA}.event_ids e WHERE e.queue_id = $3::smallint AND e.last_seen >= $11::int
    AND e.last_seen <= $7::int AND e.unsettled <= 0 AND exists(SELECT FROM fence)
    ORDER BY e.last_seen LIMIT $6::int FOR UPDATE SKIP LOCKED))
  RETURNING last_seen
), released_events AS (
  UPDATE {SCHEMA}.event_ids e SET unsettled = e.unsettled - g.n
  FROM (SELECT event_id, count(*) AS n FROM gone WHERE unsettled AND event_id IS NOT NULL GROUP BY event_id) AS g
  WHERE e.queue_id = $3::smallint AND e.id = g.event_id
), counted AS (
  INSERT INTO {SCHEMA}.counts AS c (replica_id, queue_id, name, count)
  SELECT fence.id, $3::smallint, name, sum(n) FROM fence, (
    SELECT '{IDS}', -1 FROM gone UNION ALL SELECT '{IDS}', -1 FROM gone_events
    UNION ALL SELECT '{UNSETTLED}', -1 FROM gone WHERE unsettled
    UNION ALL SELECT '{FORGOTTEN_EARLY}', 1 FROM gone WHERE last_seen > $8::int
    UNION ALL SELECT '{FORGOTTEN_EARLY}', 1 FROM gone_events WHERE last_seen > $9::int) AS changes (name, n)
  GROUP BY fence.id, name
  ON CONFLICT (replica_id, queue_id, name) DO UPDATE SET count = c.count + excluded.count
)
SELECT (SELECT count(*) FROM gone), (SELECT max(last_seen) FROM gone),
  (SELECT count(*) FROM gone_events), (SELECT max(last_seen) FROM gone_events) FROM fence
"""
"""Forget ids of one queue. $1 replica, $2 epoch, $3 queue; messages last seen until then go: $4 settled ones, $5 (not
later than $4) others; $6 at most so many; $7 events last seen until then go, where no message is unsettled that holds
them; messages ($8) and events ($9) last seen after that are forgotten early; $10, $11 messages and events last seen
before that are not looked at. One row: how many messages and events went, and when the newest of each was seen. It
looks again under the row's lock: what was seen in between stays."""

BEAT = f"""
WITH alive AS (
  UPDATE {SCHEMA}.replicas SET renewed_at = clock_timestamp() WHERE {_ALIVE} RETURNING id, {DURABLE}
), leased AS (
  UPDATE {SCHEMA}.speakers s SET replica_id = alive.id, term = s.term + (s.replica_id <> alive.id)::int,
    expires_at = clock_timestamp() + $4::float8 * interval '1 s'
  FROM alive WHERE s.ledger_id = $3::int AND (s.replica_id = alive.id OR s.expires_at < clock_timestamp())
  RETURNING s.term
)
SELECT (SELECT term FROM leased), extract(epoch FROM clock_timestamp()) FROM alive
"""
"""Say that the replica lives, and take or renew the speaker's lease of ledger $3 for $4 seconds: a row with the term,
null where another replica holds the lease, and the time; no row where the replica was fenced out."""

LEAVE = f"""
WITH left_ AS (
  UPDATE {SCHEMA}.replicas SET renewed_at = '-infinity' WHERE {_ALIVE} RETURNING id
)
UPDATE {SCHEMA}.speakers s SET expires_at = '-infinity' FROM left_
WHERE s.ledger_id = $3::int AND s.replica_id = left_.id
"""
"""Give back the lease and be taken for gone: nothing is under way any more."""

_QUEUES = f"""
SELECT 'queue', q.id::text, q.name, q.arn, floor(greatest(q.clock_seconds, (SELECT max(c.clock_seconds)
    FROM {SCHEMA}.clocks c WHERE c.queue_id = q.id)))::text,
  (SELECT max(k.at_seconds) FROM {SCHEMA}.clock_marks k WHERE k.queue_id = q.id AND k.clock_seconds <= least(
    (SELECT min(m.last_seen) FROM {SCHEMA}.message_ids m WHERE m.queue_id = q.id),
    (SELECT min(e.last_seen) FROM {SCHEMA}.event_ids e WHERE e.queue_id = q.id)))::text,
  (SELECT max(k.clock_seconds) FROM {SCHEMA}.clock_marks k WHERE k.queue_id = q.id)::text,
  (SELECT count(*) FROM {SCHEMA}.replicas r WHERE r.ledger_id = $1::int AND r.folded_at IS NULL
    AND r.renewed_at > clock_timestamp() - interval '{GONE_SECONDS} s')::text, null
FROM {SCHEMA}.queues q WHERE q.ledger_id = $1::int
"""

_COUNTS = f"""
SELECT 'count', c.queue_id::text, c.name, sum(c.count)::text, null, null, null, null, null
FROM {SCHEMA}.counts c JOIN {SCHEMA}.queues q ON q.id = c.queue_id WHERE q.ledger_id = $1::int
"""

LOOK = f"{_QUEUES} UNION ALL {_COUNTS} AND c.name IN ('{IDS}', '{UNSETTLED}') GROUP BY c.queue_id, c.name"
"""What limits how many more messages may be received: rows as of READ, those of 'queue' and the counts of ids."""

READ = f"""
{_QUEUES} UNION ALL {_COUNTS} GROUP BY c.queue_id, c.name UNION ALL
SELECT 'series', s.queue_id::text, s.type, s.labels, coalesce(sum(t.count), 0)::text,
  coalesce(sum(t.value_nano), 0)::text, coalesce(sum(t.negative_nano), 0)::text, max(t.last_occurred_seconds)::text,
  s.created_seconds::text
FROM {SCHEMA}.series s JOIN {SCHEMA}.queues q ON q.id = s.queue_id
LEFT JOIN {SCHEMA}.totals t ON t.series_id = s.id WHERE q.ledger_id = $1::int GROUP BY s.id
"""
"""All that was committed, as of one moment. Columns by kind: 'queue' (id, name, ARN, clock, when the oldest id was
committed, the newest mark, replicas); 'count' (queue, name, count); 'series' (queue, type, labels, count, value,
negative value, newest, created)."""

MARK = f"""
INSERT INTO {SCHEMA}.clock_marks (queue_id, clock_seconds, at_seconds)
VALUES ($1::smallint, $2::int, extract(epoch FROM clock_timestamp())) ON CONFLICT DO NOTHING
"""

DROP_MARKS = f"""
DELETE FROM {SCHEMA}.clock_marks k WHERE k.queue_id = $1::smallint AND k.clock_seconds < (
  SELECT max(o.clock_seconds) FROM {SCHEMA}.clock_marks o WHERE o.queue_id = $1::smallint AND o.clock_seconds <= least(
    (SELECT min(m.last_seen) FROM {SCHEMA}.message_ids m WHERE m.queue_id = $1::smallint),
    (SELECT min(e.last_seen) FROM {SCHEMA}.event_ids e WHERE e.queue_id = $1::smallint), $2::int))
"""

FIND_GONE = f"""
SELECT id FROM {SCHEMA}.replicas WHERE ledger_id = $1::int AND folded_at IS NULL
AND renewed_at < clock_timestamp() - interval '{GONE_SECONDS} s' LIMIT 10
"""


def fold(replica_id: int) -> list[str]:
    """Return the statements that add the rows of a replica that is gone to those of no replica (0).

    They are one transaction. A replica whose row is locked, as by a commit that is under way, is left for later. Its
    own row stays for a day, so that a replica that was only asleep learns what became of its commits.
    """
    gone = f"id = {replica_id} AND folded_at IS NULL AND renewed_at < clock_timestamp() - interval '{GONE_SECONDS} s'"
    folded = f"exists(SELECT FROM {SCHEMA}.replicas WHERE id = {replica_id} AND folded_at IS NOT NULL)"
    return [
        f"""UPDATE {SCHEMA}.replicas SET folded_at = clock_timestamp(), epoch = epoch + 1
WHERE id = (SELECT id FROM {SCHEMA}.replicas WHERE {gone} FOR UPDATE SKIP LOCKED)""",
        f"""WITH moved AS (DELETE FROM {SCHEMA}.totals WHERE replica_id = {replica_id} AND {folded} RETURNING *)
INSERT INTO {SCHEMA}.totals AS t SELECT 0, series_id, count, value_nano, negative_nano, last_occurred_seconds FROM moved
ORDER BY series_id ON CONFLICT (replica_id, series_id) DO UPDATE SET count = t.count + excluded.count,
value_nano = t.value_nano + excluded.value_nano, negative_nano = t.negative_nano + excluded.negative_nano,
last_occurred_seconds = greatest(t.last_occurred_seconds, excluded.last_occurred_seconds)""",
        f"""WITH moved AS (DELETE FROM {SCHEMA}.counts WHERE replica_id = {replica_id} AND {folded} RETURNING *)
INSERT INTO {SCHEMA}.counts AS c SELECT 0, queue_id, name, count FROM moved ORDER BY queue_id, name
ON CONFLICT (replica_id, queue_id, name) DO UPDATE SET count = c.count + excluded.count""",
        f"""WITH moved AS (DELETE FROM {SCHEMA}.clocks WHERE replica_id = {replica_id} AND {folded} RETURNING *)
UPDATE {SCHEMA}.queues q SET clock_seconds = greatest(q.clock_seconds, moved.clock_seconds)
FROM moved WHERE q.id = moved.queue_id""",
        f"DELETE FROM {SCHEMA}.replicas WHERE folded_at < clock_timestamp() - interval '1 day'",
    ]

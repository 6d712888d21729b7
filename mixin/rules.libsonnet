// The recording rule and the alerts. `severity: critical` is worth a page at night, `warning` a look in the morning.
//
// One cause pages once: critical alerts exclude each other by expression (what is down can't be stalled), and what
// names a cause of one of them (ledger errors, an overdue commit, failing deletes) is a warning beside it.
//
// Gauges are read with last_over_time, because a staleness marker may hide one for a scrape when another replica begins
// to speak for the ledger. Aggregations drop labels with `without` wherever they can, so that external labels stay; sums
// over sqs_events_total, whose labels are configured, name what they keep.
local config = (import 'config.libsonnet');

config {
  local c = $._config,
  local values = c {
    s: if c.selector == '' then '' else c.selector + ',',
    ledger: '%s, job, instance, ledger, queue' % c.clusterLabel,
    cluster: c.clusterLabel,
    moving: c.movingLabels,
  },
  // `metric{}` and `{a="b",}` are valid and unusual.
  local expr(text) = std.rstripChars(std.strReplace(std.strReplace(text % values, '{}', ''), ',}', '}'), '\n'),

  local alert(name, expression, summary, description, severity='warning', duration=null) = {
    alert: name,
    expr: expr(expression),
    [if duration != null then 'for']: duration,
    labels: { severity: severity },
    annotations: {
      summary: summary % values,
      description: description % values,
      runbook_url: '%s#%s' % [c.runbookUrl, std.asciiLower(name)],
      dashboard_url: c.dashboardUrl,
    },
  },

  prometheusRules+:: { groups+: [{ name: 'sqs-event-exporter', rules: $._recording + $._alerts }] },

  _recording:: [
    {
      // `up` of what is or was an exporter, for as long as Prometheus knows the target: an exporter that stays down
      // shows no sqs_exporter_build_info, and other jobs' targets never did.
      record: 'instance:sqs_exporter:up',
      expr: expr(|||
        up{%(s)s}
        and
        (
            group without (version, revision, python) (sqs_exporter_build_info{%(s)s})
          or
            last_over_time(instance:sqs_exporter:up{%(s)s}[1d])
        )
      |||),
    },
  ],

  _alerts:: [
    alert(
      'SqsExporterDown',
      'instance:sqs_exporter:up{%(s)s} == 0',
      "sqs-event-exporter {{ $labels.instance }} can't be scraped.",
      'Prometheus has not been able to scrape {{ $labels.instance }} (job {{ $labels.job }}) for 3 minutes. Events wait in SQS until the retention of their queue ends.',
      'critical',
      '3m'
    ),
    // The first part knows each job (and cluster) that has had an exporter within a day, the second one is for a
    // Prometheus that has seen none.
    alert(
      'SqsExporterAbsent',
      |||
        group without (%(moving)s, version, revision, python) (last_over_time(sqs_exporter_build_info{%(s)s}[1d]))
        unless
        group without (%(moving)s, version, revision, python) (last_over_time(sqs_exporter_build_info{%(s)s}[10m]))
        unless
        group without (%(moving)s) (instance:sqs_exporter:up{%(s)s})
        or
        (
            absent_over_time(sqs_exporter_build_info{%(s)s}[10m])
          unless on ()
            group(last_over_time(sqs_exporter_build_info{%(s)s}[1d]))
          unless on ()
            group(instance:sqs_exporter:up{%(s)s})
        )
      |||,
      'No sqs-event-exporter reports{{ with $labels.job }} in job {{ . }}{{ end }}.',
      'No sqs_exporter_build_info was seen for 15 minutes, and Prometheus has no target that was an exporter. The exporter is gone, or Prometheus no longer knows that it should scrape it.',
      'critical',
      '5m'
    ),
    alert(
      'SqsExporterQueueAbsent',
      |||
        group without (%(moving)s) (last_over_time(sqs_exporter_ready{%(s)s}[1d]))
        unless
        group without (%(moving)s) (last_over_time(sqs_exporter_ready{%(s)s}[10m]))
        unless ignoring (queue)
        group without (%(moving)s) (instance:sqs_exporter:up{%(s)s} == 0)
        and ignoring (queue)
        group without (%(moving)s, version, revision, python) (last_over_time(sqs_exporter_build_info{%(s)s}[10m]))
      |||,
      'No exporter of job {{ $labels.job }} takes {{ $labels.queue }} any longer.',
      'An exporter of job {{ $labels.job }} took {{ $labels.queue }} within the last day; those that report now do not name it. The alert ends by itself a day after the queue was last seen.',
      duration='5m'
    ),
    alert(
      'SqsExporterNotReady',
      |||
        max without (queue) (last_over_time(sqs_exporter_ready{%(s)s}[5m])) == 0
        unless
        (last_over_time(sqs_exporter_speaker{%(s)s}[5m]) == 0)
        and
        (instance:sqs_exporter:up{%(s)s} == 1)
      |||,
      '{{ $labels.instance }} takes no messages.',
      '{{ $labels.instance }} (job {{ $labels.job }}) has not been ready for 5 minutes, for any queue. GET /-/ready on it says in a sentence why.',
      'critical',
      '5m'
    ),
    alert(
      'SqsExporterQueueNotReady',
      |||
        last_over_time(sqs_exporter_ready{%(s)s}[5m]) == 0
        unless ignoring (queue)
        (max without (queue) (last_over_time(sqs_exporter_ready{%(s)s}[5m])) == 0)
        unless ignoring (queue)
        (last_over_time(sqs_exporter_speaker{%(s)s}[5m]) == 0)
        and ignoring (queue)
        (instance:sqs_exporter:up{%(s)s} == 1)
      |||,
      '{{ $labels.instance }} takes no messages from {{ $labels.queue }}.',
      '{{ $labels.instance }} (job {{ $labels.job }}) has not been ready for {{ $labels.queue }} for 5 minutes, and works for other queues. GET /-/ready on it names the queue and says why.',
      'critical',
      '5m'
    ),
    // Replicas that share a ledger: only the one that speaks for it pages, or SQS's outage would page for each.
    alert(
      'SqsExporterReplicaNotReady',
      |||
        max without (queue) (last_over_time(sqs_exporter_ready{%(s)s}[5m])) == 0
        and
        (last_over_time(sqs_exporter_speaker{%(s)s}[5m]) == 0)
        and
        (instance:sqs_exporter:up{%(s)s} == 1)
      |||,
      'The replica {{ $labels.instance }} takes no messages.',
      '{{ $labels.instance }} (job {{ $labels.job }}) has not been ready for 15 minutes; another replica speaks for the ledger. GET /-/ready on it says in a sentence why.',
      duration='15m'
    ),
    alert(
      'SqsExporterNoSpeaker',
      'max without (%(moving)s) (last_over_time(sqs_exporter_speaker{%(s)s}[5m])) == 0',
      'No exporter of job {{ $labels.job }} shows the counts.',
      'Exporters of job {{ $labels.job }} report, and for 5 minutes none of them has held the lease of their PostgreSQL ledger, so the counts are not shown. GET /-/ready on them says in a sentence why.',
      'critical',
      '5m'
    ),
    alert(
      'SqsExporterStalled',
      |||
        max without (state) (last_over_time(sqs_queue_messages{%(s)sstate="visible"}[5m])) > 0
        and
        (increase(sqs_exporter_messages_received_total{%(s)s}[5m]) == 0)
        unless ignoring (ledger, %(moving)s)
        (max without (%(moving)s) (last_over_time(sqs_exporter_ready{%(s)s}[5m])) == 0)
      |||,
      'Messages wait in {{ $labels.queue }} and none is received.',
      '{{ $value }} messages are visible in {{ $labels.queue }}, and ledger {{ $labels.ledger }} has received none for 15 minutes, although its exporter is ready.',
      'critical',
      '10m'
    ),
    alert(
      'SqsExporterRetentionNear',
      |||
        sum without (%(moving)s) (rate(sqs_message_age_seconds_sum{%(s)s}[15m]))
        /
        sum without (%(moving)s) (rate(sqs_message_age_seconds_count{%(s)s}[15m]))
        > %(lagShareOfRetention)g *
        min without (ledger, %(moving)s) (last_over_time(sqs_queue_retention_seconds{%(s)s}[5m]))
      |||,
      'Messages of {{ $labels.queue }} come near its retention.',
      'Messages of {{ $labels.queue }} are {{ $value | humanizeDuration }} old on average when they are counted: more than %(lagShareOfRetention)g of the retention of the queue, at which SQS deletes them, counted or not.',
      'critical',
      '5m'
    ),
    alert(
      'SqsExporterLag',
      |||
        histogram_quantile(0.9, sum without (%(moving)s) (rate(sqs_message_age_seconds_bucket{%(s)s}[10m]))) > %(lagSeconds)g
      |||,
      'The counts of {{ $labels.queue }} are {{ $value | humanizeDuration }} behind.',
      'For 15 minutes one message in ten of {{ $labels.queue }} has waited {{ $value | humanizeDuration }} or longer until it was counted. What is shown is that old.',
      duration='15m'
    ),
    alert(
      'SqsExporterCrashLoop',
      |||
        changes(process_start_time_seconds{%(s)s}[30m]) >= %(restartsInHalfAnHour)g
        and
        (max_over_time(instance:sqs_exporter:up{%(s)s}[3m]) == 1)
      |||,
      '{{ $labels.instance }} restarts again and again.',
      '{{ $labels.instance }} (job {{ $labels.job }}) has started {{ $value }} times in the last half hour. The last line of the log before each start says why.',
      'critical'
    ),
    // A series may be shown once as 0 before its value, so the sum may miss something for one scrape.
    alert(
      'SqsExporterUnaccounted',
      |||
        sqs_exporter_messages_received_total{%(s)s}
        - on (%(ledger)s) group_left ()
        sum by (%(ledger)s) (
          {%(s)s__name__=~"sqs_events_total|sqs_exporter_messages_(duplicate|rejected|released)_total|sqs_exporter_events_forgotten_total"}
        )
        != 0
      |||,
      'The accounts of {{ $labels.queue }} do not add up.',
      'Ledger {{ $labels.ledger }} has received {{ $value }} more messages from {{ $labels.queue }} than it counted, recognised, rejected, released and forgot. That is a bug: keep the ledger and report it.',
      duration='10m'
    ),
    alert(
      'SqsExporterTwoLedgers',
      |||
        count by (queue, account, region) (
          group by (queue, account, region, ledger) (last_over_time(sqs_queue_info{%(s)s}[5m]))
        ) > 1
      |||,
      '{{ $value }} ledgers count the events of {{ $labels.queue }}.',
      'Exporters with {{ $value }} different ledgers take messages from {{ $labels.queue }} (account {{ $labels.account }}, {{ $labels.region }}). Each shows a part, and a message that is delivered to both is counted twice.',
      duration='15m'
    ),
    alert(
      'SqsExporterRejections',
      |||
        sum without (reason) (increase(sqs_exporter_messages_rejected_total{%(s)s}[1h]))
        /
        (
            sum without (reason) (increase(sqs_exporter_messages_rejected_total{%(s)s}[1h]))
          + on (%(ledger)s) group_left ()
            sum by (%(ledger)s) (increase(sqs_events_total{%(s)s}[1h]))
          or
            sum without (reason) (increase(sqs_exporter_messages_rejected_total{%(s)s}[1h]))
        )
        > %(rejectedShare)g
        and
        sum without (reason) (increase(sqs_exporter_messages_rejected_total{%(s)s}[1h])) >= %(rejectedMessages)g
      |||,
      '{{ $value | humanizePercentage }} of the messages of {{ $labels.queue }} are not events.',
      'In the last hour ledger {{ $labels.ledger }} has rejected {{ $value | humanizePercentage }} of what {{ $labels.queue }} brought. Rejected messages are in no total.',
      duration='10m'
    ),
    alert(
      'SqsExporterDeleteFailures',
      |||
        sum without (reason, %(moving)s) (rate(sqs_exporter_message_delete_failures_total{%(s)s}[5m]))
        /
        (
            sum without (reason, %(moving)s) (rate(sqs_exporter_message_delete_failures_total{%(s)s}[5m]))
          +
            sum without (%(moving)s) (rate(sqs_exporter_messages_deleted_total{%(s)s}[5m]))
        )
        > %(deleteFailureShare)g
      |||,
      'Deletes from {{ $labels.queue }} fail.',
      'For 15 minutes SQS has not confirmed {{ $value | humanizePercentage }} of the deletes from {{ $labels.queue }}. Counted messages come back as duplicates; they are counted once for as long as the ledger remembers them.',
      duration='15m'
    ),
    alert(
      'SqsExporterLedgerErrors',
      'increase(sqs_exporter_ledger_errors_total{%(s)s}[15m]) > 0',
      'The ledger of {{ $labels.instance }} fails ({{ $labels.reason }}).',
      'A commit or a reopening of the ledger failed in the last 15 minutes. Nothing is deleted from SQS that is not committed, so nothing is lost yet; receives stop until the ledger works again.'
    ),
    // Judged when it was scraped: a minute later the commit that was under way has long been another one.
    alert(
      'SqsExporterCommitOverdue',
      |||
        timestamp(sqs_exporter_ledger_commit_started_timestamp_seconds{%(s)s})
        - (sqs_exporter_ledger_commit_started_timestamp_seconds{%(s)s} > 0)
        > %(commitOverdueSeconds)g
      |||,
      'A commit of {{ $labels.instance }} does not end.',
      'The ledger of {{ $labels.instance }} has been committing for {{ $value | humanizeDuration }}: its disk or its database does not answer. Nothing new is counted until it does.',
      duration='1m'
    ),
    alert(
      'SqsExporterMemoryNearLimit',
      |||
        last_over_time(sqs_exporter_ledger_messages{%(s)s}[5m])
        / ignoring (queue) group_left ()
        (last_over_time(sqs_exporter_ledger_max_messages{%(s)s}[5m]) > 0)
        > %(memoryShare)g
      |||,
      'The ids of {{ $labels.queue }} take {{ $value | humanizePercentage }} of --ledger.max-ids.',
      'Ledger {{ $labels.ledger }} remembers {{ $value | humanizePercentage }} of the ids that --ledger.max-ids allows for {{ $labels.queue }}. Beyond it ids are forgotten early, or receives slow down.',
      duration='15m'
    ),
    alert(
      'SqsExporterForgottenEarly',
      'increase(sqs_exporter_ledger_forgotten_early_total{%(s)s}[1h]) > 0',
      'Ledger {{ $labels.ledger }} forgets message ids of {{ $labels.queue }} before the window is over.',
      '--ledger.max-ids made ledger {{ $labels.ledger }} forget about {{ $value | humanize }} ids of {{ $labels.queue }} in the last hour that are younger than --ledger.window. A late duplicate of one of them would be counted again.'
    ),
    alert(
      'SqsExporterVolumeFilling',
      |||
        last_over_time(sqs_exporter_ledger_volume_available_bytes{%(s)s}[5m]) < %(volumeBytes)d
        or
        (
            predict_linear(sqs_exporter_ledger_volume_available_bytes{%(s)s}[6h], %(volumePredictedSeconds)d) < 0
          and
            last_over_time(sqs_exporter_ledger_volume_available_bytes{%(s)s}[5m]) < 20 * %(volumeBytes)d
        )
      |||,
      "The volume of {{ $labels.instance }}'s ledger fills up.",
      'The volume under --ledger.path of {{ $labels.instance }} has too little space, or will have none in a day at the pace of the last six hours ({{ $value | humanize1024 }}B). When it is full, no messages are taken.',
      duration='30m'
    ),
    // Own rejects take maxReceiveCount visibility timeouts to arrive, so they are looked for over six hours more. SQS's
    // number is approximate: what it was for a tenth of the day is its level before, a flicker is not.
    // Queues may share a dead-letter queue: the rejects of all of them are in it.
    alert(
      'SqsExporterDeadLetters',
      |||
        last_over_time(sqs_dead_letter_queue_messages{%(s)s}[5m])
        - quantile_over_time(0.1, sqs_dead_letter_queue_messages{%(s)s}[1d])
        > ignoring (queue) group_left ()
        sum without (queue) (
            0 * last_over_time(sqs_dead_letter_queue_messages{%(s)s}[5m])
          + ignoring (dead_letter_queue) group_left ()
            sum without (reason) (increase(sqs_exporter_messages_rejected_total{%(s)s}[30h]))
        )
      |||,
      '{{ $value }} messages were given up to {{ $labels.dead_letter_queue }}.',
      '{{ $labels.dead_letter_queue }}, the dead-letter queue of {{ $labels.queue }}, has grown by {{ $value }} messages within a day, more than were rejected. They are lost when its retention ends.',
      duration='15m'
    ),
    alert(
      'SqsExporterOverflow',
      'increase(sqs_exporter_events_overflowed_total{%(s)s}[1h]) > 0',
      '{{ $labels.queue }} has more event {{ $labels.limit }} than are admitted.',
      'In the last hour about {{ $value | humanize }} events of {{ $labels.queue }} were counted as __other__, because --events.max-{{ $labels.limit }} is reached. Totals are exact; the split is not complete.'
    ),
    alert(
      'SqsExporterClockSkew',
      'abs(last_over_time(sqs_exporter_clock_skew_seconds{%(s)s}[5m])) > %(clockSkewSeconds)g',
      "The clock of {{ $labels.instance }} differs from SQS's by {{ $value | humanizeDuration }}.",
      'The clock of {{ $labels.instance }} is {{ $value | humanizeDuration }} off. Ages are wrong by as much, and SQS refuses calls whose signature is more than 15 minutes off.',
      duration='15m'
    ),
    alert(
      'SqsExporterOtlpPushFailures',
      'rate(sqs_exporter_otlp_push_failures_total{%(s)s}[5m]) > 0',
      "{{ $labels.instance }} can't push its {{ $labels.signal }}.",
      'Pushes of {{ $labels.signal }} from {{ $labels.instance }} to the OTLP endpoint have failed for 15 minutes. Counting and /metrics are not touched by it.',
      duration='15m'
    ),
    alert(
      'SqsExporterDepthUnknown',
      |||
        max without (%(moving)s) (last_over_time(sqs_exporter_ready{%(s)s}[5m])) == 1
        unless
        group without (state, ledger, %(moving)s) (last_over_time(sqs_queue_messages{%(s)sstate="visible"}[10m]))
      |||,
      'How many messages wait in {{ $labels.queue }} is not known.',
      'No exporter of job {{ $labels.job }} could ask SQS for the depth of {{ $labels.queue }} for 15 minutes, most often because sqs:GetQueueAttributes is not allowed. SqsExporterStalled is blind without it.',
      duration='15m'
    ),
    alert(
      'SqsExporterTypeSilent',
      |||
        sum by (%(ledger)s, type) (increase(sqs_events_total{%(s)s}[1h])) == 0
        and
        sum by (%(ledger)s, type) (increase(sqs_events_total{%(s)s}[1h] offset 1w)) >= %(silentEvents)g
        and on (%(ledger)s)
        (sum by (%(ledger)s) (increase(sqs_events_total{%(s)s}[1h])) > 0)
      |||,
      'No {{ $labels.type }} events for an hour.',
      '{{ $labels.queue }} brought at least %(silentEvents)g {{ $labels.type }} events in the same hour of last week and none in the last hour, while other types go on.',
      duration='10m'
    ),
    alert(
      'SqsExporterQueueSilent',
      |||
        sum by (%(ledger)s) (increase(sqs_events_total{%(s)s}[1h])) == 0
        and
        sum by (%(ledger)s) (increase(sqs_events_total{%(s)s}[1h] offset 1w)) >= %(silentEvents)g
        unless on (%(cluster)s, job, queue)
        (max by (%(cluster)s, job, queue) (last_over_time(sqs_exporter_ready{%(s)s}[5m])) == 0)
      |||,
      'No events from {{ $labels.queue }} for an hour.',
      '{{ $labels.queue }} brought at least %(silentEvents)g events in the same hour of last week and none in the last hour, although its exporter is ready.',
      duration='10m'
    ),
  ],
}

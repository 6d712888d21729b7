// What a site may want otherwise: the series that the rules and the dashboard select, the addresses that they link to,
// and every threshold. Nothing else holds a threshold; grafana/*.py reads the ones that panels colour by from here.
{
  _config+:: {
    // Label matchers that every selector gets, as in 'namespace="shop"'.
    selector: '',
    // The label that tells clusters apart, where one Prometheus (or Thanos, Mimir) has several.
    clusterLabel: 'cluster',
    // Whether the dashboard offers the choice of a cluster on top, instead of in the menu of its controls.
    showCluster: false,
    // Target labels that change when an exporter moves. What the ledger keeps has `instance` from its ledger, and the
    // others blank.
    movingLabels: 'instance, pod, node',

    dashboardUrl: 'http://localhost:3000/d/sqs-event-exporter',
    runbookUrl: 'https://github.com/sqs-event-exporter/sqs-event-exporter/blob/main/docs/runbook.md',

    // How long a message may wait until it is counted, and which share of the queue's retention that may be.
    lagSeconds: 300,
    lagShareOfRetention: 0.5,
    // Rejected / (rejected + counted) in an hour, where at least so many were rejected.
    rejectedShare: 0.05,
    rejectedMessages: 5,
    // Deletes that SQS did not confirm, of those that were tried.
    deleteFailureShare: 0.05,
    // Ids remembered, of --ledger.max-ids.
    memoryShare: 0.85,
    // Space on the ledger's volume, now, or as the last six hours predict it.
    volumeBytes: 268435456,
    volumePredictedSeconds: 86400,
    clockSkewSeconds: 30,
    commitOverdueSeconds: 30,
    restartsInHalfAnHour: 3,
    // A type or a queue is missed where it had so many events in the same hour of last week. Chance alone brings all of n
    // events into one of two hours once in 2^n times: of five an hour, 10 would miss one every twenty weeks for nothing.
    silentEvents: 20,
  },
}

// A monitoring mixin: the dashboard as grafana/dashboard.py generated it, and the rules, for a site's own `_config`.
//
//   local mixin = (import 'sqs-event-exporter/mixin/mixin.libsonnet') { _config+:: { selector: 'namespace="shop"' } };
//   { rules: mixin.prometheusRules, dashboards: mixin.grafanaDashboards }
(import 'rules.libsonnet') {
  local c = $._config,
  local anchor = 'cluster=~"$cluster"',  // every selector of the dashboard begins with it
  local selected(text) = std.strReplace(
    text, anchor, (if c.selector == '' then '' else c.selector + ',') + '%s=~"$cluster"' % c.clusterLabel
  ),
  local adapted(value) =
    if std.isObject(value) then std.mapWithKey(function(_, member) adapted(member), value)
    else if std.isArray(value) then std.map(adapted, value)
    else if std.isString(value) then selected(value)
    else value,
  local variable(it) =
    if it.name != 'cluster' then it
    else it { hide: if c.showCluster then 0 else it.hide, query: std.strReplace(it.query, ', cluster)', ', %s)' % c.clusterLabel) },

  grafanaDashboards+:: {
    'sqs-event-exporter.json': adapted(import '../grafana/dashboards/sqs-event-exporter.json') {
      templating+: { list: std.map(variable, super.list) },
    },
  },
}

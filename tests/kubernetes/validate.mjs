// Reads a JSON list of resources from stdin and checks those of prometheus-operator and KEDA against their schemas.
// Prints a JSON list of what is wrong. The packages are found in the folder that is the first argument.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const modules = {
  PodMonitor: "@kubernetes-models/prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1PodMonitor.js",
  PrometheusRule: "@kubernetes-models/prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1PrometheusRule.js",
  ScaledObject: "@kubernetes-models/keda/_schemas/KedaShV1alpha1ScaledObject.mjs",
};
const wrong = [];
for (const resource of JSON.parse(readFileSync(0))) {
  const path = modules[resource.kind];
  if (path === undefined) continue;
  const { validate } = await import(pathToFileURL(`${process.argv[2]}/node_modules/${path}`));
  if (!validate(resource)) wrong.push({ kind: resource.kind, errors: validate.errors });
}
console.log(JSON.stringify(wrong));

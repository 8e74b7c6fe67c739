-- Health of a ModelDeployment for Argo CD: resource.customizations.health.tidegate.dev_ModelDeployment in argocd-cm.
-- Flux and `kubectl wait` need no file: they read the conditions Ready, Reconciling and Stalled (kstatus).
local health = {status = "Progressing", message = "The operator has not looked at it yet."}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= nil and status.observedGeneration < obj.metadata.generation then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
health.message = status.message
if status.phase == "Paused" then
  health.status = "Suspended"
elseif status.phase == "Degraded" then
  health.status = "Degraded"
elseif conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  health.status = "Degraded"
  health.message = conditions.Stalled.message
elseif conditions.Reconciling ~= nil and conditions.Reconciling.status == "True" then
  health.status = "Progressing"
elseif conditions.Ready ~= nil and conditions.Ready.status == "True" then
  health.status = "Healthy"
end
return health

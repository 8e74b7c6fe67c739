-- Health of a FeatureView for Argo CD: resource.customizations.health.tidegate.dev_FeatureView in argocd-cm.
local health = {status = "Progressing", message = "The operator has not looked at it yet."}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
health.message = status.message
for _, condition in ipairs(status.conditions) do
  if condition.type == "SchemaCompatible" and condition.status == "False" then
    health.status = "Degraded"
    health.message = condition.message
    return health
  end
end
for _, condition in ipairs(status.conditions) do
  if condition.type == "Ready" then
    if condition.status == "True" then
      health.status = "Healthy"
    elseif status.phase == "Failed" then
      health.status = "Degraded"
      health.message = condition.message
    end
  end
end
return health

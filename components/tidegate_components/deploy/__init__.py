"""Deploy: write the ModelDeployment to a file or a GitOps folder, or apply it. Nothing else crosses to the cluster."""

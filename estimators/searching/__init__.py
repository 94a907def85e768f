"""The batched search behind BatchedSearchCV: plan, features, chunks, scores, checkpoint."""

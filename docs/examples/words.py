# %% [markdown]
# # From names to a classifier
#
# Folders of images whose names say what is in them, and a model of images and texts: how far do names alone lead, what
# do a few labelled images add, and what is found by words?
#
# In a notebook, set the two names below; as a script: `python words.py IMAGES MODEL`. `IMAGES` has `train/CLASS/IMAGE`
# and `test/CLASS/IMAGE`; `MODEL` is a SigLIP, SigLIP 2 or CLIP, such as `vit_base_patch16_siglip_224.webli`.

# %%
import sys

import numpy as np

from frofa import (
    FeatureIndex,
    FrozenFeatureExtractor,
    FrozenTextExtractor,
    ZeroShotClassifier,
    load,
    load_image_folder,
    save,
)
from frofa.estimators import ShrinkageProbeClassifier
from frofa.evaluation import log_loss, sample_shots

IMAGES, MODEL = "images", "vit_base_patch16_siglip_224.webli"
if len(sys.argv) == 3:
    IMAGES, MODEL = sys.argv[1:]
STORE = "features"  # what was computed once is read from here

train, train_labels = load_image_folder(f"{IMAGES}/train")
test, test_labels = load_image_folder(f"{IMAGES}/test")
train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)

# %% [markdown]
# ## Features
#
# The vector of an image that the model compares with texts, of the image as it is and of its mirror image.

# %%
images = FrozenFeatureExtractor(MODEL, output="projected", n_views=2, store=STORE)
words = FrozenTextExtractor(MODEL, store=STORE)
train_features, test_features = images.transform(train), images.transform(test)
print(f"{len(train)} images to learn from, {len(test)} to test on, {train_features.shape[1]} channels")

# %% [markdown]
# ## No image
#
# Folders are called `guinea_pig` and the like: labels are words already, and `class_names` may be a list of them.
# Captions matter more or less, depending on what the model was trained on; `"auto"` takes its own, if it has some.

# %%
classes = sorted(set(train_labels.tolist()))
accuracy = {}
for templates in ("{}", "a photo of a {}.", "auto"):
    head = ZeroShotClassifier({name: name.replace("_", " ") for name in classes}, text=words, templates=templates).fit()
    accuracy[templates] = head.score(test_features, test_labels)
    print(f"{templates:20} {accuracy[templates]:.1%}")

# %% [markdown]
# ## Some images
#
# A few labelled images say how far probabilities can be trusted. They change no prediction of a zero-shot classifier.

# %%
chosen = sample_shots(train_labels, 2, random_state=0)
calibrated = ZeroShotClassifier(head.class_names, text=words, calibrate="temperature")
calibrated.fit(train_features[chosen], train_labels[chosen])
for name, each in (("names alone", head), ("calibrated", calibrated)):
    loss = log_loss(test_labels, each.predict_proba(test_features), each.classes_)
    print(f"{name:20} log-loss {loss:.3f}, temperature {each.temperature_:.2f}")

# %% [markdown]
# ## Look at what it is least sure of

# %%
sure = calibrated.predict_proba(test_features).max(1)
for i in np.argsort(sure)[:5]:
    print(f"{sure[i]:.0%} {calibrated.predict(test_features[[i]])[0]:20} {test[i]}")

# %% [markdown]
# ## Names and images together
#
# The same head with names and without: `prior="text"` lets them count as far as they predict the labelled images.

# %%
for shots in (1, 2):
    chosen = sample_shots(train_labels, shots, random_state=0)
    alone = ShrinkageProbeClassifier().fit(train_features[chosen], train_labels[chosen])
    both = ShrinkageProbeClassifier(prior="text", class_names=head.class_names, text=words)
    both.fit(train_features[chosen], train_labels[chosen])
    scores = [each.score(test_features, test_labels) for each in (head, alone, both)]
    print(f"{shots} of each class: names {scores[0]:.1%}, images {scores[1]:.1%}, both {scores[2]:.1%}")

# %% [markdown]
# ## Search by words
#
# Images and words lie in one space: whatever the model has a word for is found without a label.

# %%
index = FeatureIndex(np.asarray(test_features.views("projected")[0]), names=test)
query = f"a photo of a {head.class_names[classes[0]]}"
distances, positions = index.kneighbors(words.transform([query]), n_neighbors=3)
print(query)
for distance, position in zip(distances[0], positions[0], strict=True):
    print(f"{1 - distance:6.2f} {index.names[position]}")

# %% [markdown]
# ## Keep it
#
# A saved head needs neither the text tower nor its tokenizer.

# %%
save(both, "words.frofa")
again = load("words.frofa")
assert (again.predict(test_features) == both.predict(test_features)).all()

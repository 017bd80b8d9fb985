/* src/config/config.h
 *
 * From files to a model, or to a list of mistakes. Pure: no loop, no workers, no live model; reads the files named.
 */
#pragma once
#include "base/diags.h"
#include "model/model.h"

struct config_source {
	const char *path;	/* -c FILE; NULL: none */
	struct str yaml;	/* --config-yaml: merged over the file's tree as Envoy does; .p NULL: none */
	struct str *sets;	/* --set postern.NAME=VALUE */
	unsigned nsets;
	const char *admin;	/* --admin ADDRESS:PORT or unix:PATH, for sources without admin; NULL */
	const char *node_id, *node_cluster; /* --service-node, --service-cluster; NULL */
	const char *base_dir;	/* against which relative file names are resolved; NULL: the working directory */
};

/* Appends the listener that model->admin asks for, served by the type "postern.admin". False: error in d. */
bool model_add_admin_listener(struct model *m, const struct filter_type *const *types, struct diags *d);
/* NULL: diags has errors. types: the filter types there are, NULL-terminated. The result has one reference. */
struct model *config_compile(const struct config_source *src, const struct filter_type *const *types, struct diags *diags);

/* Appends the listener of model->admin (nothing when there is none), whose only filter is the type named "postern.admin".
 * False: errors added. Before the model is published. */
bool model_add_admin_listener(struct model *m, const struct filter_type *const *types, struct diags *diags);

/* Documents. NULL: error added. The tree lives in a. A JSON file (suffix .json or first non-blank byte '{' or '[') goes to jansson. */
struct doc *doc_from_yaml(struct arena *a, struct diags *d, const char *file, struct str text); /* the only document; several: error */
struct doc *doc_from_yaml_all(struct arena *a, struct diags *d, const char *file, struct str text); /* a list of documents */
struct doc *doc_from_json(struct arena *a, struct diags *d, const char *file, struct str text);
struct doc *doc_from_file(struct arena *a, struct diags *d, const char *file);
/* Canonical JSON of a tree (config_dump), growing *out (malloc'd; the caller frees). Secrets (private keys, inline) are masked. */
bool doc_to_json(const struct doc *d, char **out, size_t *n, bool mask_secrets);

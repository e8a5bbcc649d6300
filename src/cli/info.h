/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_INFO_H
#define CLI_INFO_H

/* Prints what the model in a folder is: its index, its transformer's sizes, its parameters. Returns the exit code. */
int cli_info_model(const char *folder, int json);

#endif

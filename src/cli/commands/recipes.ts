/** `tl recipes`: named sets of settings, and where they come from. */
import type { Host } from '../program.js';

export function recipesCommand(host: Host): void {
  const command = host.command('recipes', 'list the recipes of `tl finetune --recipe`');
  command.action(() =>
    host.run(command, async ({ out }) => {
      const { recipes } = await import('../../train/settings/recipes.js');
      const rows = Object.entries(recipes).map(([name, { summary, source }]) => ({ name, summary, source }));
      out.result({ recipes: rows }, () =>
        rows
          .map(({ name, summary, source }) => `${out.style.bold(name)}\n  ${summary}\n  source: ${source}`)
          .join('\n\n'),
      );
    }),
  );
}

import {
  createDataFrame,
  DataFrame,
  dateTime,
  FieldColorModeId,
  FieldType,
  getDisplayProcessor,
  getFieldDisplayName,
  GrafanaTheme2,
  reduceField,
  ReducerID,
  ThresholdsMode,
  TimeRange,
} from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, TimeSeries } from '@grafana/ui';
import type { Board, Panel, Series } from './page';

/** Returns the drawing of a panel by the component that Grafana draws it with; of a heat map, its cells. */
export function drawing(panel: Panel, board: Board, theme: GrafanaTheme2, width: number, height: number) {
  if (panel.series.length === 0) {
    const { noValue } = panel.fieldConfig.defaults;
    return <div style={{ textAlign: 'center', paddingTop: height / 3 }}>{noValue ?? 'No data'}</div>;
  }
  const [from, to] = [dateTime(board.from * 1000), dateTime(board.to * 1000)];
  const range: TimeRange = { from, to, raw: { from, to } };
  if (panel.type === 'stat') {
    return <Stats panel={panel} theme={theme} width={width} height={height} />;
  }
  if (panel.type === 'heatmap') {
    return <Heatmap panel={panel} theme={theme} width={width} height={height} />;
  }
  return (
    <TimeSeries
      frames={frames(panel, theme)}
      timeRange={range}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
      options={{ tooltip: panel.options.tooltip }}
    />
  );
}

/** Wide enough for labels such as `0.75 req/s`, for which the component measures another font than the page has. */
const AXIS_WIDTH = 76;

/** Returns a frame for each series, with the panel's own unit, decimals, thresholds and style. */
function frames(panel: Panel, theme: GrafanaTheme2): DataFrame[] {
  const { defaults } = panel.fieldConfig;
  // As Grafana colours each kind by default. In its files the lowest threshold is null.
  const mode = panel.type === 'stat' ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic;
  const steps = (defaults.thresholds?.steps ?? [{ value: null, color: 'green' }]).map(
    (step: { value: number | null; color: string }) => ({ ...step, value: step.value ?? -Infinity })
  );
  return panel.series.map((series, number) => {
    const config = {
      color: { mode },
      ...defaults,
      thresholds: { mode: ThresholdsMode.Absolute, steps },
      displayNameFromDS: series.name,
      custom: { axisWidth: AXIS_WIDTH, drawStyle: 'line', lineInterpolation: 'linear', fillOpacity: 0, spanNulls: false, ...defaults.custom },
    };
    const frame = createDataFrame({
      refId: String(number),
      fields: [
        { name: 'Time', type: FieldType.time, values: series.times.map((time) => time * 1000), config: {} },
        { name: series.name, type: FieldType.number, values: series.values, config },
      ],
    });
    frame.fields.forEach((field) => {
      field.state = { seriesIndex: number };
      field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
      field.state.displayName = getFieldDisplayName(field, frame);
    });
    return frame;
  });
}

function Stats({ panel, theme, width, height }: { panel: Panel; theme: GrafanaTheme2; width: number; height: number }) {
  const shown = frames(panel, theme);
  return (
    <div style={{ display: 'flex' }}>
      {shown.map(({ fields: [, field] }, number) => {
        const last = reduceField({ field, reducers: [ReducerID.lastNotNull] })[ReducerID.lastNotNull];
        const value = field.display!(last);
        return (
          <BigValue
            key={number}
            value={{ ...value, title: shown.length > 1 ? panel.series[number].name : undefined }}
            colorMode={(panel.options.colorMode as BigValueColorMode) ?? BigValueColorMode.Value}
            graphMode={BigValueGraphMode.None}
            width={width / shown.length}
            height={height}
            theme={theme}
          />
        );
      })}
    </div>
  );
}

/** Grafana's heat map is no part of its components: these are the same cells, a row for each bucket. */
function Heatmap({ panel, theme, width, height }: { panel: Panel; theme: GrafanaTheme2; width: number; height: number }) {
  const rows = [...panel.series].sort((one, other) => bound(one) - bound(other));
  const counts = rows.map((row, number) => row.values.map((value, at) => (value ?? 0) - (number ? below(rows, number, at) : 0)));
  const most = Math.max(...counts.flat(), 1e-9);
  const label = 60;
  const cellHeight = height / rows.length;
  return (
    <svg width={width} height={height} fontSize={11} fill={theme.colors.text.secondary}>
      {rows.map((row, number) => (
        <g key={row.name} transform={`translate(0 ${height - (number + 1) * cellHeight})`}>
          <text y={cellHeight / 2 + 4}>{row.name}</text>
          {counts[number].map((count, at) => (
            <rect
              key={at}
              x={label + (at * (width - label)) / counts[number].length}
              width={(width - label) / counts[number].length}
              height={cellHeight}
              fill={theme.visualization.getColorByName('orange')}
              fillOpacity={Math.sqrt(Math.max(count, 0) / most)}
            />
          ))}
        </g>
      ))}
    </svg>
  );
}

function bound({ name }: Series): number {
  return name === '+Inf' ? Infinity : Number(name);
}

function below(rows: Series[], number: number, at: number): number {
  return rows[number - 1].values[at] ?? 0;
}
